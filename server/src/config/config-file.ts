import { readFileSync } from "node:fs";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { BASE_ADDRESS_FORM, isBaseAddress } from "./base-address.ts";
import { DIALECTS, RESERVED_NAMES } from "./provider-names.ts";

/**
 * The operator's file (BRIKK_CONFIG): providers, prices and policies. It is read whole and refused whole; every fault comes
 * with its place, such as `providers.0.models.2.id`. No fault repeats a value, as somebody may have pasted a key.
 */
export interface ConfigFile {
  readonly prices: readonly PriceSetting[];
  readonly providers: readonly ProviderEntry[];
  readonly policies: readonly PolicyEntry[];
}

export const EMPTY_CONFIG_FILE: ConfigFile = { prices: [], providers: [], policies: [] };

const NAME = /^[a-z][a-z0-9-]{0,39}$/;
const NAME_FORM =
  "is not a name of at most 40 small letters, digits and hyphens that begins with a letter and has no slash";

const dollars = z.union([z.string(), z.number()]).transform((value, context) => {
  const text = typeof value === "number" ? value.toFixed(6).replace(/\.?0+$/, "") : value;
  // What has more decimals is a price per token perhaps, and would be rounded to nothing.
  const isWhole = typeof value === "string" || Number(text) === value;
  if (isWhole && /^\d{1,6}(\.\d{1,6})?$/.test(text)) return text;
  context.addIssue({ code: "custom", message: "is not an amount of USD with at most 6 decimals" });
  return z.NEVER;
});
const seconds = z.number().min(0.001, "is below 0.001 seconds").max(86_400, "is above 86400 seconds");
const name = z.string().regex(NAME, NAME_FORM);
const modelName = z.string().min(1).max(200);

const priceSetting = z.strictObject({
  provider: z.string().min(1),
  model: z.string().min(1),
  kind: z.enum(["chat", "embedding"]).optional(),
  input_usd_per_million: dollars,
  cached_input_usd_per_million: dollars.optional(),
  output_usd_per_million: dollars.optional(),
  context_tokens: z.int().positive().optional(),
  max_output_tokens: z.int().positive().optional(),
});
export type PriceSetting = z.infer<typeof priceSetting>;

const timeoutSettings = z.strictObject({
  connect_seconds: seconds.optional(),
  first_token_seconds: seconds.optional(),
  thinking_first_token_seconds: seconds.optional(),
  idle_seconds: seconds.optional(),
  attempt_seconds: seconds.optional(),
});
export type TimeoutSettings = z.infer<typeof timeoutSettings>;

const modelSetting = z.strictObject({
  id: modelName,
  kind: z.enum(["chat", "embedding"]).optional(),
  /** Without it the price package must know the model; the rest then describes it. */
  input_usd_per_million: dollars.optional(),
  cached_input_usd_per_million: dollars.optional(),
  output_usd_per_million: dollars.optional(),
  context_tokens: z.int().positive().optional(),
  max_output_tokens: z.int().positive().optional(),
  reasons: z.boolean().optional(),
  images: z.boolean().optional(),
  quality_tier: z.int().min(1).max(3).optional(),
  timeouts: timeoutSettings.optional(),
});
export type ModelSetting = z.infer<typeof modelSetting>;

const providerEntry = z.strictObject({
  name: name.refine((text) => !RESERVED_NAMES.includes(text), "is taken by Brikk itself"),
  base_url: z
    .string()
    .transform((text, context) => {
      const address = text.trim().replace(/\/+$/, "");
      if (isBaseAddress(address)) return address;
      context.addIssue({ code: "custom", message: `is not ${BASE_ADDRESS_FORM}` });
      return z.NEVER;
    })
    .optional(),
  api_key_env: z
    .string()
    .regex(
      /^[A-Z_][A-Z0-9_]*$/,
      "is not the name of an environment variable in capitals; the key itself does not belong in this file",
    )
    .optional(),
  api_key_stored: z.literal(true, { error: "is not true, which is the one thing that it can be" }).optional(),
  dialect: z.enum(DIALECTS).optional(),
  default_model: modelName.optional(),
  models: z.array(modelSetting).default([]),
  timeouts: timeoutSettings.optional(),
  max_in_flight: z.int().min(1).max(100_000).optional(),
  max_queued: z.int().min(0).max(100_000).optional(),
  continuation: z.enum(["prefix", "instruct"]).optional(),
  stream_usage: z.boolean().optional(),
  output_limit: z.enum(["max_tokens", "max_completion_tokens"]).optional(),
});
type WrittenProvider = z.infer<typeof providerEntry>;
export interface ProviderEntry extends WrittenProvider {
  /** Where it stands, for faults that show only when it is put together with the environment. */
  readonly place: string;
}

const weight = z.number().positive().max(1_000_000);
const candidate = z.union(
  [
    modelName.transform((model) => ({ model, weight: 1 })),
    z.strictObject({ model: modelName, weight: weight.default(1) }),
  ],
  { error: "is neither a model's name nor {model, weight} with a weight above 0" },
);
const policyEntry = z.strictObject({
  name,
  candidates: z.array(candidate).min(1, "names no candidate"),
  strategy: z.enum(["order", "weighted", "lowest_cost", "lowest_latency"]).default("order"),
  max_price: z
    .strictObject({ input_usd_per_million: dollars.optional(), output_usd_per_million: dollars.optional() })
    .optional(),
  applies_to: z.array(modelName).default([]),
  hedge: z
    .strictObject({
      after_ms: z.int().min(1).max(600_000).optional(),
      max_extra_spend: z.number().min(0).max(1).default(0.1),
    })
    .optional(),
});
export type PolicyEntry = z.infer<typeof policyEntry>;

const sections = z.strictObject({
  prices: z.array(z.unknown()).default([]),
  providers: z.array(z.unknown()).default([]),
  policies: z.array(z.unknown()).default([]),
});

/** Reads the file and says all that is wrong with it by itself; `file` then has what is sound, for the checks that follow. */
export function readConfigFile(path: string): { readonly file: ConfigFile; readonly faults: readonly string[] } {
  let document: unknown;
  try {
    document = parseYaml(readFileSync(path, "utf8"), { logLevel: "error" }) ?? {};
  } catch (cause) {
    return {
      file: EMPTY_CONFIG_FILE,
      faults: [`BRIKK_CONFIG names ${path}, which cannot be read: ${reasonOf(cause)}.`],
    };
  }
  const faults: string[] = [];
  const report = (place: readonly PropertyKey[], message: string): void => {
    const where = place.length === 0 ? "the file" : place.map(String).join(".");
    faults.push(`${path}: ${where}: ${message.replace(/\.$/, "")}.`);
  };
  const parsed = sections.safeParse(document);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) report(issue.path, issue.message);
    return { file: EMPTY_CONFIG_FILE, faults };
  }
  // Entry by entry, so that a fault in one does not hide what is wrong between the others.
  const read = <Entry>(section: keyof ConfigFile, schema: z.ZodType<Entry>): Placed<Entry>[] =>
    parsed.data[section].flatMap((value, index) => {
      const entry = schema.safeParse(value);
      if (entry.success) return [{ place: [section, index], entry: entry.data }];
      for (const issue of entry.error.issues) report([section, index, ...issue.path], issue.message);
      return [];
    });
  const prices = read("prices", priceSetting);
  const providers = read("providers", providerEntry);
  const policies = read("policies", policyEntry);
  checkPrices(prices, providers, report);
  checkProviders(providers, report);
  checkPolicies(policies, providers, report);
  return {
    file: {
      prices: entries(prices),
      providers: providers.map(({ place, entry }) => ({ ...entry, place: `${path}: ${place.map(String).join(".")}` })),
      policies: entries(policies),
    },
    faults,
  };
}

interface Placed<Entry> {
  readonly place: readonly PropertyKey[];
  readonly entry: Entry;
}

type Report = (place: readonly PropertyKey[], message: string) => void;

const entries = <Entry>(placed: readonly Placed<Entry>[]): Entry[] => placed.map(({ entry }) => entry);

/** Without what the parser quotes, where a key may have been pasted: what stands behind a colon, and the lines around the fault. */
function reasonOf(cause: unknown): string {
  if (cause instanceof ReferenceError) return "it has a word with * before it, which means an anchor that is not there";
  const [reason = ""] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
  return reason.replace(/[:.]$/, "").replace(/(?<=\w): .*(?= at line \d+, column \d+$)/, "");
}

/** A chat model's answer must have a price, and a model one price only. */
function checkPrices(
  prices: readonly Placed<PriceSetting>[],
  providers: readonly Placed<WrittenProvider>[],
  report: Report,
): void {
  const priced = new Map<string, string>();
  for (const { place, entry } of prices) {
    if (lacksOutputPrice(entry.model, entry)) report(place, OUTPUT_PRICE_MISSING);
    const key = keyOf(entry.provider, entry.model);
    const earlier = priced.get(key);
    if (earlier !== undefined) report(place, `has another price at ${earlier}`);
    else priced.set(key, place.map(String).join("."));
  }
  for (const { place, entry } of providers) {
    const known = new Set<string>();
    for (const [index, model] of entry.models.entries()) {
      const key = keyOf(entry.name, model.id);
      if (known.has(key)) report([...place, "models", index], "stands twice in this list");
      known.add(key);
      if (model.input_usd_per_million === undefined) {
        if (model.output_usd_per_million !== undefined || model.cached_input_usd_per_million !== undefined)
          report([...place, "models", index], "has a price, but no input_usd_per_million");
        continue;
      }
      if (lacksOutputPrice(model.id, model)) report([...place, "models", index], OUTPUT_PRICE_MISSING);
      const elsewhere = priced.get(key);
      if (elsewhere !== undefined)
        report([...place, "models", index], `has a price here and another one at ${elsewhere}`);
    }
  }
}

const OUTPUT_PRICE_MISSING =
  'needs output_usd_per_million, as a chat model\'s answer must have a price; an embedding model says "kind: embedding"';

/** Models that say "embed" in their names are taken for embedding models by the catalogue, too. */
const lacksOutputPrice = (
  id: string,
  { kind, output_usd_per_million }: Pick<ModelSetting, "kind" | "output_usd_per_million">,
): boolean => output_usd_per_million === undefined && (kind ?? (/embed/i.test(id) ? "embedding" : "chat")) === "chat";

const keyOf = (provider: string, model: string): string => `${provider}\n${model.toLowerCase()}`;

function checkProviders(providers: readonly Placed<WrittenProvider>[], report: Report): void {
  const names = new Set<string>();
  for (const { place, entry } of providers) {
    if (names.has(entry.name)) report([...place, "name"], "is the name of an earlier provider, too");
    names.add(entry.name);
  }
}

function checkPolicies(
  policies: readonly Placed<PolicyEntry>[],
  providers: readonly Placed<WrittenProvider>[],
  report: Report,
): void {
  const providerNames = new Set<string>([...DIALECTS, ...providers.map(({ entry }) => entry.name)]);
  const names = new Set<string>();
  const answeredBy = new Map<string, string>();
  for (const { place, entry } of policies) {
    if (providerNames.has(entry.name)) report([...place, "name"], "is the name of a provider, too");
    if (names.has(entry.name)) report([...place, "name"], "is the name of an earlier policy, too");
    names.add(entry.name);
    const asked = new Set<string>();
    for (const [index, { model }] of entry.candidates.entries()) {
      if (model.startsWith("brikk/"))
        report([...place, "candidates", index], "is the router's, which no policy can ask");
      if (asked.has(model)) report([...place, "candidates", index], "stands twice in this list");
      asked.add(model);
    }
    for (const [index, model] of entry.applies_to.entries()) {
      if (model.startsWith("brikk/"))
        report([...place, "applies_to", index], "is the router's; a policy of the name behind the slash replaces it");
      const other = answeredBy.get(model);
      if (other !== undefined) report([...place, "applies_to", index], `is answered by the policy ${other} already`);
      answeredBy.set(model, entry.name);
    }
    if (entry.hedge !== undefined && entry.candidates.length === 1)
      report([...place, "hedge"], "needs a second candidate to ask");
  }
}
