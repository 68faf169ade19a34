interface Setting {
  readonly name: string;
  readonly fallback: string | undefined;
  readonly meaning: string;
}

/** Every setting there is. `.env.example` is checked against this list. */
export const settings = [
  { name: "HOST", fallback: "127.0.0.1", meaning: "address to listen on" },
  { name: "PORT", fallback: "8080", meaning: "port to listen on; 0 takes a free one" },
  { name: "NODE_ENV", fallback: undefined, meaning: "`production` turns on the checks that a public server needs" },
  {
    name: "DATABASE_URL",
    fallback: "sqlite:./data/brikk.db",
    meaning:
      "where keys and the ledger live: sqlite:PATH, or postgres://USER:PASSWORD@HOST:PORT/DATABASE for more than one instance",
  },
  {
    name: "REDIS_URL",
    fallback: undefined,
    meaning: "Redis or Valkey, redis:// or rediss://: rate limits, and what was signed before, shared by all instances",
  },
  {
    name: "REDIS_TIMEOUT_MS",
    fallback: "100",
    meaning: "how long a request may wait for Redis before its limits are decided in memory",
  },
  { name: "OPENAI_API_KEY", fallback: undefined, meaning: "without any provider the simulator serves both" },
  { name: "MISTRAL_API_KEY", fallback: undefined, meaning: "without any provider the simulator serves both" },
  { name: "OPENAI_BASE_URL", fallback: "https://api.openai.com/v1", meaning: "the provider's address" },
  { name: "MISTRAL_BASE_URL", fallback: "https://api.mistral.ai/v1", meaning: "the provider's address" },
  { name: "OPENAI_MODEL", fallback: "gpt-4o-mini", meaning: "the model that /agents uses at this provider" },
  { name: "MISTRAL_MODEL", fallback: "mistral-small-latest", meaning: "the model that /agents uses at this provider" },
  {
    name: "BRIKK_CONFIG",
    fallback: undefined,
    meaning:
      "a YAML or JSON file: more providers, models, prices, routing policies; read again on SIGHUP; see docs/providers.md",
  },
  { name: "BRIKK_REQUIRE_AUTH", fallback: "false", meaning: "refuse callers without a key" },
  {
    name: "BRIKK_ALLOW_ANONYMOUS",
    fallback: "false",
    meaning: "allow callers without a key off loopback or in production",
  },
  { name: "BRIKK_DEFAULT_SOFT_CAP_USD", fallback: "5.00", meaning: "soft cap per key and day" },
  { name: "BRIKK_DEFAULT_HARD_CAP_USD", fallback: "10.00", meaning: "hard cap per key and day" },
  {
    name: "BRIKK_BUDGET_WEBHOOK_URL",
    fallback: undefined,
    meaning: "told when a budget reaches its soft cap or 50, 80 or 100 % of its hard cap; see docs/webhooks.md",
  },
  {
    name: "BRIKK_BUDGET_WEBHOOK_SECRET",
    fallback: undefined,
    meaning: "signs these messages: whsec_ and base64; several, separated by commas, all sign",
  },
  { name: "BRIKK_RATE_LIMIT_PER_MIN", fallback: "60", meaning: "requests per minute and key" },
  {
    name: "BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN",
    fallback: "30",
    meaning: "requests per minute and address of callers without a key; the key they share has its own limit as well",
  },
  { name: "BRIKK_MAX_BODY_BYTES", fallback: "10485760", meaning: "largest request body accepted" },
  {
    name: "BRIKK_USAGE_RETENTION_DAYS",
    fallback: undefined,
    meaning: "usage events older than that are deleted, 32 at least; sums stay, and without it so does everything",
  },
  { name: "BRIKK_DRAIN_SECONDS", fallback: "30", meaning: "how long streams in hand may go on after SIGTERM" },
  { name: "PROVIDER_TIMEOUT_SECONDS", fallback: "30", meaning: "a whole attempt that does not stream" },
  { name: "PROVIDER_CONNECT_TIMEOUT_SECONDS", fallback: "5", meaning: "connecting to a provider" },
  { name: "PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS", fallback: "10", meaning: "waiting for a stream's first output" },
  {
    name: "PROVIDER_THINKING_FIRST_TOKEN_TIMEOUT_SECONDS",
    fallback: "120",
    meaning: "waiting for the first output of a model that thinks before it speaks",
  },
  { name: "PROVIDER_IDLE_TIMEOUT_SECONDS", fallback: "15", meaning: "silence inside a stream" },
  {
    name: "PROVIDER_MAX_RETRIES",
    fallback: "3",
    meaning: "how often a request may ask again, over all candidates; each is asked once without that",
  },
  {
    name: "PROVIDER_PROBE_SECONDS",
    fallback: undefined,
    meaning: "how often a provider without traffic is asked for its list of models, which costs nothing",
  },
  {
    name: "BRIKK_PROVIDER_MAX_IN_FLIGHT",
    fallback: "1000",
    meaning: "requests at one provider at a time; more wait",
  },
  {
    name: "BRIKK_PROVIDER_MAX_QUEUED",
    fallback: "200",
    meaning: "requests that may wait for one provider; more go to the next candidate, or get 503",
  },
  {
    name: "BRIKK_REQUEST_TIMEOUT_SECONDS",
    fallback: "600",
    meaning: "one deadline over all attempts of a request, streams included",
  },
  {
    name: "BRIKK_KEEP_ALIVE_SECONDS",
    fallback: "15",
    meaning: "how often a stream in which nothing happens gets a comment, so that proxies do not cut it",
  },
  { name: "BRIKK_MAX_IN_FLIGHT", fallback: "4000", meaning: "requests in hand in this process; more get 503" },
  {
    name: "BRIKK_MAX_EVENT_LOOP_DELAY_MS",
    fallback: "1000",
    meaning: "new requests get 503 while the process is late by so much",
  },
  {
    name: "BRIKK_ADMIN_TOKEN",
    fallback: undefined,
    meaning: "the bearer token for /admin, which does not exist without it",
  },
  {
    name: "BRIKK_ENCRYPTION_KEY",
    fallback: undefined,
    meaning:
      "seals stored secrets: a Fernet key, or several separated by commas, the newest first; required in production, else made beside the database",
  },
  {
    name: "BRIKK_SELF_SERVICE_KEYS",
    fallback: undefined,
    meaning: "let callers make capped keys of their own; true on a loopback HOST outside production, else false",
  },
  { name: "BRIKK_SELF_SERVICE_HARD_CAP_USD", fallback: "1.00", meaning: "hard cap per day of such a key" },
  { name: "BRIKK_SELF_SERVICE_MAX_KEYS", fallback: "200", meaning: "how many such keys may be in force at a time" },
  {
    name: "BRIKK_SELF_SERVICE_MAX_KEYS_PER_ADDRESS",
    fallback: "5",
    meaning: "how many such keys one address may make in a day",
  },
  { name: "BRIKK_SELF_SERVICE_KEY_DAYS", fallback: "7", meaning: "how long such a key lives" },
  {
    name: "TRUST_PROXY",
    fallback: "0",
    meaning: "how many proxies stand before this server and are believed about the caller's address (X-Forwarded-For)",
  },
  {
    name: "BRIKK_ALLOWED_HOSTS",
    fallback: undefined,
    meaning:
      "names, separated by commas, under which callers without a key may call besides localhost, local names and addresses; without it, no others on a loopback HOST (unless TRUST_PROXY or BRIKK_ALLOW_ANONYMOUS is set), and any elsewhere",
  },
  {
    name: "CORS_ALLOWED_ORIGINS",
    fallback: undefined,
    meaning: "origins whose pages may call this server, separated by commas; * is refused in production",
  },
  { name: "ENABLE_AUDIT_LOGGING", fallback: "true", meaning: "keep the audit trail" },
  {
    name: "BRIKK_AUDIT_RETENTION_DAYS",
    fallback: undefined,
    meaning: "audit entries older than that are deleted; without it none is",
  },
  {
    name: "BRIKK_MAX_CONNECTIONS_PER_ADDRESS",
    fallback: "100",
    meaning: "connections that one address may have open without having shown a valid key",
  },
  {
    name: "BRIKK_ALLOW_PRIVATE_ADDRESSES",
    fallback: undefined,
    meaning:
      "let providers and the budget webhook have addresses inside private networks; true outside production, else false",
  },
  { name: "SIMULATOR_FIRST_TOKEN_MS", fallback: "300", meaning: "the simulator's pace, when it serves" },
  {
    name: "SIMULATOR_TOKENS_PER_SECOND",
    fallback: "60",
    meaning: "the simulator's pace, when it serves; 0 is as fast as it can",
  },
  { name: "LOG_LEVEL", fallback: "info", meaning: "trace, debug, info, warn, error, fatal or silent" },
] as const satisfies readonly Setting[];

export type SettingName = (typeof settings)[number]["name"];
