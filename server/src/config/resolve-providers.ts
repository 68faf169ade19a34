import type { Dialect, ProviderConfig, TimeoutConfig } from "../config.ts";
import type { ProviderEntry, TimeoutSettings } from "./config-file.ts";

/** A provider that Brikk knows by itself, as the environment describes it; an entry of the same name in the file refines it. */
export interface BuiltInProvider {
  readonly name: Dialect;
  readonly apiKey: string | undefined;
  readonly baseUrl: string;
  readonly defaultModel: string;
  /** The variables that set the two above, where they are set: a second word on the same thing is a fault. */
  readonly setBy: { readonly baseUrl: string | undefined; readonly defaultModel: string | undefined };
}

export interface ProviderDefaults {
  readonly timeouts: TimeoutConfig;
  readonly maxInFlight: number;
  readonly maxQueued: number;
}

/** What the file's entries and the environment make together: the built-in providers first, then the operator's in the file's order. */
export function resolveProviders(options: {
  readonly builtIn: readonly BuiltInProvider[];
  readonly entries: readonly ProviderEntry[];
  readonly defaults: ProviderDefaults;
  /** A variable's value, checked as every secret is; undefined when it is not set. */
  readonly secret: (name: string) => string | undefined;
}): { readonly providers: readonly ProviderConfig[]; readonly faults: readonly string[] } {
  const { builtIn, entries, defaults, secret } = options;
  const faults: string[] = [];
  const refined = builtIn.map((provider): ProviderConfig => {
    const entry = entries.find(({ name }) => name === provider.name);
    if (entry) faults.push(...refinementFaults(provider, entry));
    return {
      name: provider.name,
      dialect: provider.name,
      apiKey: provider.apiKey,
      keyless: false,
      baseUrl: entry?.base_url ?? provider.baseUrl,
      defaultModel: entry?.default_model ?? provider.defaultModel,
      ...tuning(entry, provider.name, defaults),
      outputLimit: entry?.output_limit,
    };
  });
  const own = entries
    .filter(({ name }) => !builtIn.some((provider) => provider.name === name))
    .map((entry): ProviderConfig => {
      const dialect = entry.dialect ?? "openai";
      const apiKey = entry.api_key_env === undefined ? undefined : secret(entry.api_key_env);
      const defaultModel = entry.default_model ?? entry.models.find(({ kind }) => kind !== "embedding")?.id;
      if (entry.api_key_env !== undefined && apiKey === undefined)
        faults.push(`${entry.place}.api_key_env: names ${entry.api_key_env}, which is not set.`);
      if (entry.base_url === undefined) faults.push(`${entry.place}.base_url: is missing.`);
      if (defaultModel === undefined)
        faults.push(`${entry.place}.default_model: is missing, and there is no chat model under models to take.`);
      return {
        name: entry.name,
        dialect,
        apiKey,
        keyless: entry.api_key_env === undefined && entry.api_key_stored !== true,
        baseUrl: entry.base_url ?? "",
        defaultModel: defaultModel ?? "",
        ...tuning(entry, dialect, defaults),
        // The name that servers of this form have in common; many take the newer one and obey it not.
        outputLimit: entry.output_limit ?? "max_tokens",
      };
    });
  return { providers: [...refined, ...own], faults };
}

/** What is Brikk's own knowledge, or set elsewhere. */
function refinementFaults(provider: BuiltInProvider, entry: ProviderEntry): string[] {
  const faults: string[] = [];
  if (entry.dialect !== undefined && entry.dialect !== provider.name)
    faults.push(`${entry.place}.dialect: cannot be changed for ${provider.name}; give the provider another name.`);
  if (entry.api_key_env !== undefined)
    faults.push(`${entry.place}.api_key_env: has no place here, as ${provider.name} has its own variable.`);
  if (entry.api_key_stored !== undefined)
    faults.push(`${entry.place}.api_key_stored: has no place here, as ${provider.name} never goes without a key.`);
  if (entry.base_url !== undefined && provider.setBy.baseUrl !== undefined)
    faults.push(`${entry.place}.base_url: is set by ${provider.setBy.baseUrl}, too; set it in one place.`);
  if (entry.default_model !== undefined && provider.setBy.defaultModel !== undefined)
    faults.push(`${entry.place}.default_model: is set by ${provider.setBy.defaultModel}, too; set it in one place.`);
  return faults;
}

function tuning(
  entry: ProviderEntry | undefined,
  dialect: Dialect,
  defaults: ProviderDefaults,
): Pick<ProviderConfig, "timeouts" | "maxInFlight" | "maxQueued" | "continuation" | "streamUsage" | "models"> {
  return {
    timeouts: { ...defaults.timeouts, ...timeoutsIn(entry?.timeouts) },
    maxInFlight: entry?.max_in_flight ?? defaults.maxInFlight,
    maxQueued: entry?.max_queued ?? defaults.maxQueued,
    continuation: entry?.continuation ?? (dialect === "mistral" ? "prefix" : "instruct"),
    streamUsage: entry?.stream_usage ?? true,
    models: entry?.models ?? [],
  };
}

/** The same in milliseconds, and only what is given. */
export function timeoutsIn(settings: TimeoutSettings | undefined): Partial<TimeoutConfig> {
  const inMs = (seconds: number | undefined): number | undefined =>
    seconds === undefined ? undefined : Math.round(seconds * 1_000);
  const all = {
    connectMs: inMs(settings?.connect_seconds),
    firstTokenMs: inMs(settings?.first_token_seconds),
    thinkingFirstTokenMs: inMs(settings?.thinking_first_token_seconds),
    idleMs: inMs(settings?.idle_seconds),
    attemptMs: inMs(settings?.attempt_seconds),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}
