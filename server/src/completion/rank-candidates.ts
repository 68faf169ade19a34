import { unfitness } from "./candidate-fitness.ts";
import type { Candidate } from "./model-router.ts";
import { preferenceOrder } from "./preference-order.ts";
import { abovePrice } from "./price-limit.ts";
import type { Contender, Wish, WishContext } from "./wish.ts";

export interface Ranking {
  /** In the order in which they are asked. */
  readonly ranked: readonly Reasoned[];
  readonly excluded: readonly Reasoned[];
  /** Why the order is as it is; short, and in ASCII but for models' names. */
  readonly reason: string;
}

export interface Reasoned {
  readonly candidate: Candidate;
  readonly reason: string;
}

/**
 * Who may serve a request, in which order they are asked, and why, by what is known when it comes:
 *
 *   not too dear -> fit -> in preferred order -> behind those who may be asked now
 *
 * Every contender comes out once, ranked or excluded. What a policy's price limit shuts out stays out. Where nobody is fit the
 * others all stay, because the first one's own refusal is then the most honest answer. Who may not be asked yet (its breaker is
 * open, it cools down) goes behind whoever may and is not excluded: it may be the last resort.
 */
export function rankCandidates(contenders: readonly Contender[], wish: Wish, context: WishContext): Ranking {
  const { allowed, tooDear } = withinPrice(contenders, wish, context);
  const unfit = new Map<Contender, string>();
  for (const contender of allowed) {
    const reason = unfitness(contender.candidate, context.facts);
    if (reason !== undefined) unfit.set(contender, reason);
  }
  const noneFits = unfit.size === allowed.length;

  const { order, reason } = preferenceOrder(
    noneFits ? allowed : allowed.filter((contender) => !unfit.has(contender)),
    wish,
    context,
  );
  const ready = order.filter(({ contender }) => mayBeAsked(contender));
  const waiting = order.filter(({ contender }) => !mayBeAsked(contender));

  const notes = [reason];
  const favourite = order[0]?.contender;
  if (ready.length === 0 && favourite) notes.push("none may be asked now");
  else if (favourite && !mayBeAsked(favourite)) notes.push(`${nameOf(favourite)} behind, ${hindrance(favourite)}`);
  if (unfit.size > 0) notes.push(noneFits ? "none can do all that is asked" : without([...unfit]));
  return {
    ranked: [
      ...ready.map(({ contender, reason: why }) => ({ contender, reasons: [why, unfit.get(contender)] })),
      ...waiting.map(({ contender, reason: why }) => ({
        contender,
        reasons: [why, unfit.get(contender), `behind, ${hindrance(contender)} for another ${secondsLeft(contender)} s`],
      })),
    ].map(({ contender: { candidate }, reasons }) => ({ candidate, reason: joined(reasons) })),
    excluded: [...tooDear, ...(noneFits ? [] : [...unfit].map(([{ candidate }, why]) => ({ candidate, reason: why })))],
    reason: joined(notes),
  };
}

function withinPrice(contenders: readonly Contender[], wish: Wish, { facts }: WishContext) {
  if (wish.kind !== "policy") return { allowed: contenders, tooDear: [] };
  const allowed: Contender[] = [];
  const tooDear: Reasoned[] = [];
  for (const contender of contenders) {
    const { candidate } = contender;
    const reason = abovePrice(candidate.model, wish.policy, facts);
    if (reason === undefined) allowed.push(contender);
    else tooDear.push({ candidate, reason });
  }
  return { allowed, tooDear };
}

const mayBeAsked = ({ standing }: Contender): boolean => standing.availableInMs === 0;

const hindrance = ({ standing: { state } }: Contender): string =>
  state === "closed" ? "it cools down" : `its circuit breaker is ${state}`;

const secondsLeft = ({ standing }: Contender): number => Math.ceil(standing.availableInMs / 1_000);

function without([first, ...others]: readonly (readonly [Contender, string])[]): string {
  const more = others.length > 0 ? `, and ${others.length} more` : "";
  return first ? `without ${nameOf(first[0])}: ${first[1]}${more}` : "";
}

const nameOf = ({ candidate: { model } }: Contender): string => `${model.provider}/${model.id.slice(0, 60)}`;

const joined = (notes: readonly (string | undefined)[]): string =>
  notes.filter((note) => note !== undefined).join("; ");
