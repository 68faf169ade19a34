import type { PolicyConfig } from "../config.ts";
import { primaryLanguage } from "../lib/language-tag.ts";
import { formatUsd, type NanoUsd } from "../lib/money.ts";
import { expectedCost } from "./expected-cost.ts";
import type { RequestFacts } from "./request-facts.ts";
import type { Contender, LanguagePreferences, Wish, WishContext } from "./wish.ts";

export interface PreferenceOrder {
  readonly order: readonly Placed[];
  readonly reason: string;
}

interface Placed {
  readonly contender: Contender;
  readonly reason: string;
}

/** The contenders in the order that was wished for, whether or not they may be asked now. Equals stay in the order given. */
export function preferenceOrder(contenders: readonly Contender[], wish: Wish, context: WishContext): PreferenceOrder {
  switch (wish.kind) {
    case "given":
      return { order: inPlaces(contenders, "of the caller's list"), reason: "models named by the caller, in order" };
    case "preference": {
      const order = byPreference(contenders, wish, context);
      return wish.provider === undefined ? order : putFirst(wish.provider, order);
    }
    case "policy": {
      const { order, reason } = byStrategy(contenders, wish.policy, context);
      const instead = wish.insteadOf === undefined ? "" : ` in place of ${wish.insteadOf.slice(0, 60)}`;
      return { order, reason: `policy ${wish.policy.name}${instead}: ${reason}` };
    }
    default:
      return wish satisfies never;
  }
}

function byPreference(
  contenders: readonly Contender[],
  wish: Extract<Wish, { kind: "preference" }>,
  context: WishContext,
): PreferenceOrder {
  // Whatever else decides, equals go by language, then as configured.
  const usual = byLanguage(contenders, wish.language, context.languages);
  const inUsualOrder = usual.order.map(({ contender }) => contender);
  switch (wish.preference) {
    case "auto":
      return usual;
    case "cheap":
      return { order: byCost(inUsualOrder, context.facts), reason: "cheapest for this request" };
    case "quality":
      return { order: byQuality(inUsualOrder, context.facts), reason: "best quality tier" };
    case "balanced":
      return {
        order: byBalance(inUsualOrder, context.facts),
        reason: "balanced over price, quality and first-token time",
      };
    default:
      return wish.preference satisfies never;
  }
}

function byStrategy(contenders: readonly Contender[], policy: PolicyConfig, context: WishContext): PreferenceOrder {
  switch (policy.strategy) {
    case "order":
      return { order: inPlaces(contenders, "of the policy"), reason: "in its order" };
    case "weighted":
      return { order: byWeight(contenders, context.random), reason: "drawn by weight" };
    case "lowest_cost":
      return { order: byCost(contenders, context.facts), reason: "lowest cost for this request" };
    case "lowest_latency":
      return { order: byLatency(contenders, context.random), reason: "shortest time to the first token" };
    default:
      return policy.strategy satisfies never;
  }
}

const inPlaces = (contenders: readonly Contender[], where: string): Placed[] =>
  contenders.map((contender) => ({ contender, reason: `place ${contender.place} ${where}` }));

function putFirst(provider: string, { order, reason }: PreferenceOrder): PreferenceOrder {
  const isIt = ({ contender }: Placed): boolean => contender.candidate.model.provider === provider;
  if (!order.some(isIt)) return { order, reason: `policy ${provider}, which is no candidate; ${reason}` };
  return {
    order: [
      ...order.filter(isIt).map(({ contender }) => ({ contender, reason: "the provider asked for" })),
      ...order.filter((placed) => !isIt(placed)),
    ],
    reason: `policy ${provider}`,
  };
}

function byLanguage(
  contenders: readonly Contender[],
  tag: string | undefined,
  languages: LanguagePreferences,
): PreferenceOrder {
  const configured = contenders.map((contender) => ({ contender, reason: "in configured order" }));
  if (tag === undefined) return { order: configured, reason: "first configured provider" };
  const language = primaryLanguage(tag);
  const preferred = languages[language];
  if (preferred === undefined)
    return { order: configured, reason: `language ${language} has no preference; first configured provider` };
  const isIt = ({ contender }: Placed): boolean => contender.candidate.model.provider === preferred;
  const first = configured.filter(isIt);
  if (first.length === 0)
    return {
      order: configured,
      reason: `language ${language} prefers ${preferred}, which is no candidate; first configured provider`,
    };
  return {
    order: [
      ...first.map(({ contender }) => ({ contender, reason: `preferred for language ${language}` })),
      ...configured.filter((placed) => !isIt(placed)),
    ],
    reason: `language ${language}`,
  };
}

interface Costed {
  readonly contender: Contender;
  readonly cost: NanoUsd;
}

const costed = (contenders: readonly Contender[], facts: RequestFacts): Costed[] =>
  contenders.map((contender) => ({ contender, cost: expectedCost(contender.candidate.model, facts) }));

const cheaper = (a: Costed, b: Costed): number => (a.cost < b.cost ? -1 : a.cost > b.cost ? 1 : 0);

const byCost = (contenders: readonly Contender[], facts: RequestFacts): Placed[] =>
  costed(contenders, facts)
    .sort(cheaper)
    .map(({ contender, cost }) => ({ contender, reason: `about ${formatUsd(cost)} USD` }));

/** Error rates are compared in steps of a twentieth: a smaller difference is noise. Too few requests to say are no errors. */
const errorStep = ({ standing }: Contender): number => Math.round((standing.errorRate ?? 0) * 20);

const byQuality = (contenders: readonly Contender[], facts: RequestFacts): Placed[] =>
  costed(contenders, facts)
    .sort(
      (a, b) =>
        b.contender.candidate.model.qualityTier - a.contender.candidate.model.qualityTier ||
        errorStep(a.contender) - errorStep(b.contender) ||
        cheaper(a, b),
    )
    .map(({ contender, cost }) => {
      const { errorRate } = contender.standing;
      const errors = errorRate === undefined ? "" : `, ${Math.round(errorRate * 100)} % errors`;
      return {
        contender,
        reason: `tier ${contender.candidate.model.qualityTier}${errors}, about ${formatUsd(cost)} USD`,
      };
    });

const PRICE_SHARE = 0.4;
const QUALITY_SHARE = 0.4;
const LATENCY_SHARE = 0.2;
/** Of a first-token time that nobody has measured yet: neither a reason for nor against. */
const UNKNOWN_LATENCY = 0.5;

/**
 * Each is marked from 0, good, to 1, bad: its price as a share of the dearest one's, its quality tier (3 is 0, 1 is 1), its
 * median first-token time as a share of the slowest one's. The smallest weighted sum of the three goes first.
 */
function byBalance(contenders: readonly Contender[], facts: RequestFacts): Placed[] {
  const all = costed(contenders, facts);
  const dearest = Math.max(...all.map(({ cost }) => Number(cost)));
  const slowest = Math.max(...contenders.map(({ standing }) => standing.firstTokenP50Ms ?? 0));
  return all
    .map(({ contender, cost }) => {
      const { model } = contender.candidate;
      const latencyMs = contender.standing.firstTokenP50Ms;
      const price = dearest === 0 ? 0 : Number(cost) / dearest;
      const quality = (3 - model.qualityTier) / 2;
      const latency = latencyMs === undefined ? UNKNOWN_LATENCY : slowest === 0 ? 0 : latencyMs / slowest;
      const mark = PRICE_SHARE * price + QUALITY_SHARE * quality + LATENCY_SHARE * latency;
      const reason = `mark ${mark.toFixed(2)}: about ${formatUsd(cost)} USD, tier ${model.qualityTier}, ${firstToken(latencyMs)}`;
      return { contender, mark, reason };
    })
    .sort((a, b) => a.mark - b.mark)
    .map(({ contender, reason }) => ({ contender, reason }));
}

/** Draws without putting back, so that each place goes by weight among those that are left; what weighs nothing comes last. */
function byWeight(contenders: readonly Contender[], random: () => number): Placed[] {
  const order: Placed[] = [];
  let left = contenders;
  while (left.length > 0) {
    const drawn = drawOne(left, random);
    order.push({ contender: drawn, reason: `place ${order.length + 1} in the draw, weight ${drawn.weight}` });
    left = left.filter((contender) => contender !== drawn);
  }
  return order;
}

function drawOne(contenders: readonly Contender[], random: () => number): Contender {
  let rest = random() * contenders.reduce((sum, { weight }) => sum + weight, 0);
  for (const contender of contenders) {
    if (rest < contender.weight) return contender;
    rest -= contender.weight;
  }
  return contenders[0]!;
}

/** How often somebody whose time nobody knows is asked first, so that it becomes known. */
const EXPLORED_SHARE = 0.1;

/** Those whose median is known go by it, the others behind them as given, but for the one that is tried out now and then. */
function byLatency(contenders: readonly Contender[], random: () => number): Placed[] {
  const known = contenders
    .filter(({ standing }) => standing.firstTokenP50Ms !== undefined)
    .sort((a, b) => a.standing.firstTokenP50Ms! - b.standing.firstTokenP50Ms!);
  const unknown = contenders.filter(({ standing }) => standing.firstTokenP50Ms === undefined);
  const explored =
    known.length > 0 && random() < EXPLORED_SHARE
      ? unknown.find(({ standing }) => standing.availableInMs === 0)
      : undefined;
  return [
    ...(explored ? [{ contender: explored, reason: "first token not known yet, tried to learn it" }] : []),
    ...[...known, ...unknown.filter((contender) => contender !== explored)].map((contender) => ({
      contender,
      reason: firstToken(contender.standing.firstTokenP50Ms),
    })),
  ];
}

const firstToken = (medianMs: number | undefined): string =>
  medianMs === undefined ? "first token not known yet" : `first token in ${Math.round(medianMs)} ms`;
