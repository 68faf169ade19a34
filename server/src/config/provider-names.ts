/** The wire forms that there are; each is also the name of the built-in provider that speaks it. */
export const DIALECTS = ["openai", "mistral"] as const;

/** Names that mean something else in a model's place, in `policy` or in a path under /agents. */
export const RESERVED_NAMES: readonly string[] = ["brikk", "route", "bridge", "auto", "cheap", "quality", "balanced"];
