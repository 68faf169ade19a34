import { BASE_ADDRESS_FORM, isBaseAddress } from "./config/base-address.ts";
import {
  EMPTY_CONFIG_FILE,
  type ModelSetting,
  type PolicyEntry,
  type PriceSetting,
  readConfigFile,
} from "./config/config-file.ts";
import type { DIALECTS } from "./config/provider-names.ts";
import { resolveProviders } from "./config/resolve-providers.ts";
import { tokenWeakness } from "./config/token-weakness.ts";
import { type SettingName, settings } from "./config/settings.ts";
import { type FernetKey, type FernetKeys, parseFernetKeys } from "./lib/fernet.ts";
import { type NanoUsd, parseUsd } from "./lib/money.ts";
import { namesPrivateAddress } from "./lib/private-address.ts";
import { parseWebhookSecret } from "./lib/webhook-signature.ts";
import { isPostgresUrl, parsePostgresUrl, POSTGRES_URL_FORM } from "./lib/postgres-address.ts";

/**
 * Environment and optional config file -> one frozen Config. The only reader of process.env. Every fault is found before
 * anything is reported, so that one start shows them all.
 */
export interface Config {
  readonly host: string;
  readonly port: number;
  readonly production: boolean;
  readonly databaseUrl: string;
  /** Holds a password perhaps; not to be shown. */
  readonly redisUrl: string | undefined;
  readonly redisTimeoutMs: number;
  readonly requireAuth: boolean;
  readonly defaultSoftCap: NanoUsd;
  readonly defaultHardCap: NanoUsd;
  readonly rateLimitPerMin: number;
  /** Undefined: budget alerts are only logged and counted. */
  readonly budgetWebhook: { readonly url: string; readonly secrets: readonly Buffer[] } | undefined;
  readonly anonymousRateLimitPerMin: number;
  /** The built-in ones first, then those of the config file in its order; configured or not (see `isConfigured`). */
  readonly providers: readonly ProviderConfig[];
  readonly policies: readonly PolicyConfig[];
  /** How often a request may ask candidates again, over all of them; each is asked once without that. */
  readonly maxRetries: number;
  /** One deadline over all attempts of a request, streams included. */
  readonly requestTimeoutMs: number;
  /** A silent stream gets a comment so often, so that what stands between does not cut it. */
  readonly keepAliveMs: number;
  /** Undefined: idle providers are not probed. */
  readonly probeIntervalMs: number | undefined;
  /** Requests in hand in this process; more are refused. */
  readonly maxInFlight: number;
  readonly maxEventLoopDelayMs: number;
  /** Undefined: there is no administration over HTTP. Not to be shown. */
  readonly adminToken: string | undefined;
  readonly selfService: SelfServiceConfig | undefined;
  /** Undefined: a key of the data folder's own. Not to be shown. */
  readonly encryptionKeys: FernetKeys | undefined;
  /** How many proxies stand before this server and are believed about the caller's address; 0: none. */
  readonly trustedProxies: number;
  /** Other names than local ones under which callers without a key are served; undefined: any name. */
  readonly allowedHosts: readonly string[] | undefined;
  /** Origins whose pages may call this server; "*" alone: every one. */
  readonly corsOrigins: readonly string[];
  readonly auditLogging: boolean;
  /** Undefined: audit entries are kept for ever. */
  readonly auditRetentionDays: number | undefined;
  readonly maxConnectionsPerAddress: number;
  /** Whether providers, and the budget webhook, may have addresses inside private networks. */
  readonly allowPrivateAddresses: boolean;
  readonly maxBodyBytes: number;
  readonly drainTimeoutMs: number;
  /** Undefined: usage events are kept for ever. */
  readonly usageRetentionDays: number | undefined;
  readonly logLevel: LogLevel;
  readonly simulator: { readonly firstTokenMs: number; readonly tokensPerSecond: number };
  readonly prices: readonly PriceSetting[];
}

/** Keys that callers make for themselves. */
export interface SelfServiceConfig {
  /** Of each key, per day. */
  readonly hardCap: NanoUsd;
  /** How many may be in force at a time, over all callers. */
  readonly most: number;
  /** How many one address may make in a day. */
  readonly mostPerAddress: number;
  readonly days: number;
}

/** All of them in milliseconds. */
export interface TimeoutConfig {
  readonly connectMs: number;
  readonly firstTokenMs: number;
  /** In the place of `firstTokenMs`, for a model that thinks before it speaks. */
  readonly thinkingFirstTokenMs: number;
  /** Silence inside a stream. */
  readonly idleMs: number;
  /** A whole attempt that does not stream. */
  readonly attemptMs: number;
}

/** The wire form that a provider speaks. */
export type Dialect = (typeof DIALECTS)[number];

export interface ProviderConfig {
  readonly name: string;
  readonly dialect: Dialect;
  /** The environment's, or a stored one in its place. Not to be shown. */
  readonly apiKey: string | undefined;
  /** Serves without a key, as a server of the operator's own may. */
  readonly keyless: boolean;
  readonly baseUrl: string;
  readonly defaultModel: string;
  readonly timeouts: TimeoutConfig;
  readonly maxInFlight: number;
  readonly maxQueued: number;
  /** How an answer that was begun elsewhere is continued: the beginning as the answer's prefix, or in words. */
  readonly continuation: "prefix" | "instruct";
  /** Whether streams are asked for their usage; a server that refuses to be asked has its usage estimated. */
  readonly streamUsage: boolean;
  /** The one name under which the provider knows an answer's limit; undefined: it knows both, or its dialect has but one. */
  readonly outputLimit: "max_tokens" | "max_completion_tokens" | undefined;
  readonly models: readonly ModelSetting[];
}

/** Whether the provider can be asked at all. */
export const isConfigured = ({ apiKey, keyless }: ProviderConfig): boolean => keyless || apiKey !== undefined;

export interface PolicyConfig {
  readonly name: string;
  readonly candidates: readonly {
    /** "provider/model", or a model's name. */
    readonly model: string;
    readonly weight: number;
  }[];
  readonly strategy: "order" | "weighted" | "lowest_cost" | "lowest_latency";
  /** Decimals. */
  readonly maxPrice:
    | { readonly inputUsdPerMillion: string | undefined; readonly outputUsdPerMillion: string | undefined }
    | undefined;
  /** Models that a caller may name and that this policy may answer with its candidates. */
  readonly appliesTo: readonly string[];
  readonly hedge: HedgeConfig | undefined;
}

/** A second candidate is asked as well when the first one is slow to begin. */
export interface HedgeConfig {
  /** Undefined: the candidate's own 95th percentile. */
  readonly afterMs: number | undefined;
  /** The share of what is spent anyway that hedging may add, 0 to 1. */
  readonly maxExtraSpend: number;
}

export type { ModelSetting, PriceSetting } from "./config/config-file.ts";

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

/** Thrown with every fault at once; `message` is fit for a person. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(
      faults.length === 1
        ? `Brikk cannot start: ${faults[0]}`
        : `Brikk cannot start, ${faults.length} settings are wrong:\n${faults.map((fault) => `  - ${fault}`).join("\n")}`,
    );
    this.faults = faults;
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

const LEAST_ADMIN_TOKEN = 16;
const NEW_WEBHOOK_SECRET = 'make one with: echo "whsec_$(openssl rand -base64 32)".';

const NEW_ENCRYPTION_KEY = "make one with: openssl rand -base64 32 | tr '+/' '-_'.";

const ALLOW_PRIVATE = "set BRIKK_ALLOW_PRIVATE_ADDRESSES=true if that is meant";

const HOST_NAME = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/;

/** What browsers send as Origin, and nothing that only looks like it. */
function isOrigin(text: string): boolean {
  try {
    const { origin, protocol } = new URL(text);
    return origin === text && (protocol === "https:" || protocol === "http:");
  } catch {
    return false;
  }
}

/** Plain http is taken as it is for providers: receivers inside a private network are common, and messages are signed. */
function isWebAddress(text: string): boolean {
  try {
    const { protocol, username, password } = new URL(text);
    // What cannot be decoded could not be sent as credentials.
    decodeURIComponent(username + password);
    return protocol === "https:" || protocol === "http:";
  } catch {
    return false;
  }
}

export function loadConfig(environment: Environment): Config {
  const faults: string[] = [];
  const read = (name: SettingName): string =>
    environment[name]?.trim() || (settings.find((setting) => setting.name === name)?.fallback ?? "");
  const fault = (name: SettingName, accepted: string): void => {
    faults.push(`${name} is "${read(name)}"; accepted is ${accepted}.`);
  };
  const wholeNumber = (name: SettingName, low: number, high: number): number => {
    const text = read(name);
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= low && value <= high) return value;
    fault(name, `a whole number from ${low} to ${high}`);
    return low;
  };
  const seconds = (name: SettingName): number => {
    const value = Number(read(name));
    if (Number.isFinite(value) && value > 0 && value <= 86_400) return Math.round(value * 1_000);
    fault(name, "a number of seconds above 0 and at most 86400");
    return 1_000;
  };
  const flag = (name: SettingName): boolean => {
    const text = read(name).toLowerCase();
    if (text !== "true" && text !== "false") fault(name, "true or false");
    return text === "true";
  };
  const usd = (name: SettingName): NanoUsd => {
    const amount = parseUsd(read(name));
    if (amount !== undefined) return amount;
    fault(name, "an amount of USD such as 5 or 0.50");
    return 0n as NanoUsd;
  };
  const address = (name: SettingName): string => {
    const text = read(name).replace(/\/+$/, "");
    // It may hold a password, so this fault has its own words.
    if (!isBaseAddress(text)) faults.push(`${name} is not ${BASE_ADDRESS_FORM}.`);
    return text;
  };
  const secret = (name: string): string | undefined => {
    const text = environment[name]?.trim();
    if (text === undefined || text === "") return undefined;
    // A secret is never repeated, so this fault has its own words.
    if (!/^[\x21-\x7e]+$/.test(text))
      faults.push(`${name} has characters that no key has, such as spaces; paste it again.`);
    return text;
  };
  const flagOr = (name: SettingName, fallback: boolean): boolean => (read(name) === "" ? fallback : flag(name));
  const redisAddress = (name: SettingName): string | undefined => {
    const text = environment[name]?.trim();
    if (text === undefined || text === "" || isRedisAddress(text)) return text || undefined;
    // It may hold a password, so this fault has its own words.
    faults.push(`${name} is not of the form redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER], or rediss:// for TLS.`);
    return undefined;
  };

  const budgetWebhook = (): Config["budgetWebhook"] => {
    const url = read("BRIKK_BUDGET_WEBHOOK_URL");
    // Either value may hold a secret (many receivers are known by their path alone), so neither is repeated.
    if (url !== "" && !isWebAddress(url))
      faults.push("BRIKK_BUDGET_WEBHOOK_URL is not an https:// or http:// address that can be called.");
    const texts = read("BRIKK_BUDGET_WEBHOOK_SECRET")
      .split(",")
      .map((text) => text.trim())
      .filter((text) => text !== "");
    const secrets = texts.map(parseWebhookSecret);
    if (secrets.includes(undefined))
      faults.push(
        `BRIKK_BUDGET_WEBHOOK_SECRET holds something other than whsec_ and 24 to 64 bytes in base64; ${NEW_WEBHOOK_SECRET}`,
      );
    if (url !== "" && secrets.length === 0)
      faults.push(
        `BRIKK_BUDGET_WEBHOOK_SECRET is not set while BRIKK_BUDGET_WEBHOOK_URL is, and unsigned messages are not sent; ${NEW_WEBHOOK_SECRET}`,
      );
    return url === "" ? undefined : { url, secrets: secrets.filter((bytes) => bytes !== undefined) };
  };

  const host = read("HOST");
  const production = read("NODE_ENV") === "production";
  const requireAuth = flag("BRIKK_REQUIRE_AUTH");
  const allowAnonymous = flag("BRIKK_ALLOW_ANONYMOUS");
  const loopback = host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
  if (!requireAuth && !allowAnonymous && (production || !loopback)) {
    faults.push(
      `BRIKK_REQUIRE_AUTH is false while ${production ? "NODE_ENV is production" : `HOST is ${host}, which others can reach`}; ` +
        "set BRIKK_REQUIRE_AUTH=true, or BRIKK_ALLOW_ANONYMOUS=true if callers without a key are meant to be served.",
    );
  }
  const databaseUrl = read("DATABASE_URL");
  const databaseFault = databaseUrlFault(databaseUrl);
  if (databaseFault !== undefined) faults.push(`DATABASE_URL ${databaseFault}.`);
  const defaultSoftCap = usd("BRIKK_DEFAULT_SOFT_CAP_USD");
  const defaultHardCap = usd("BRIKK_DEFAULT_HARD_CAP_USD");
  if (defaultSoftCap > defaultHardCap) fault("BRIKK_DEFAULT_SOFT_CAP_USD", "at most BRIKK_DEFAULT_HARD_CAP_USD");
  const logLevel = read("LOG_LEVEL") as LogLevel;
  if (!["trace", "debug", "info", "warn", "error", "fatal", "silent"].includes(logLevel)) {
    fault("LOG_LEVEL", "one of trace, debug, info, warn, error, fatal, silent");
  }
  const configPath = read("BRIKK_CONFIG");
  const { file, faults: fileFaults } =
    configPath === "" ? { file: EMPTY_CONFIG_FILE, faults: [] } : readConfigFile(configPath);
  faults.push(...fileFaults);
  const providerTimeoutMs = seconds("PROVIDER_TIMEOUT_SECONDS");
  const connectTimeoutMs = seconds("PROVIDER_CONNECT_TIMEOUT_SECONDS");
  const firstTokenTimeoutMs = seconds("PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS");
  const idleTimeoutMs = seconds("PROVIDER_IDLE_TIMEOUT_SECONDS");
  const setBy = (name: SettingName): string | undefined => (environment[name]?.trim() ? name : undefined);
  const { providers, faults: providerFaults } = resolveProviders({
    builtIn: [
      {
        name: "openai",
        apiKey: secret("OPENAI_API_KEY"),
        baseUrl: address("OPENAI_BASE_URL"),
        defaultModel: read("OPENAI_MODEL"),
        setBy: { baseUrl: setBy("OPENAI_BASE_URL"), defaultModel: setBy("OPENAI_MODEL") },
      },
      {
        name: "mistral",
        apiKey: secret("MISTRAL_API_KEY"),
        baseUrl: address("MISTRAL_BASE_URL"),
        defaultModel: read("MISTRAL_MODEL"),
        setBy: { baseUrl: setBy("MISTRAL_BASE_URL"), defaultModel: setBy("MISTRAL_MODEL") },
      },
    ],
    entries: file.providers,
    defaults: {
      timeouts: {
        connectMs: connectTimeoutMs,
        firstTokenMs: firstTokenTimeoutMs,
        thinkingFirstTokenMs: seconds("PROVIDER_THINKING_FIRST_TOKEN_TIMEOUT_SECONDS"),
        idleMs: idleTimeoutMs,
        attemptMs: providerTimeoutMs,
      },
      maxInFlight: wholeNumber("BRIKK_PROVIDER_MAX_IN_FLIGHT", 1, 100_000),
      maxQueued: wholeNumber("BRIKK_PROVIDER_MAX_QUEUED", 0, 100_000),
    },
    secret,
  });
  faults.push(...providerFaults);
  const allowPrivateAddresses = flagOr("BRIKK_ALLOW_PRIVATE_ADDRESSES", !production);
  if (!allowPrivateAddresses) {
    for (const { name, baseUrl } of providers) {
      const hostname = URL.parse(baseUrl)?.hostname;
      if (hostname !== undefined && namesPrivateAddress(hostname))
        faults.push(
          `The provider ${name} has the address ${hostname}, which is inside a private network; ${ALLOW_PRIVATE}.`,
        );
    }
    const receiver = URL.parse(read("BRIKK_BUDGET_WEBHOOK_URL"))?.hostname;
    if (receiver !== undefined && namesPrivateAddress(receiver))
      faults.push(`BRIKK_BUDGET_WEBHOOK_URL has an address inside a private network; ${ALLOW_PRIVATE}.`);
  }
  const adminToken = secret("BRIKK_ADMIN_TOKEN");
  const weakness = adminToken === undefined ? undefined : tokenWeakness(adminToken, LEAST_ADMIN_TOKEN);
  if (weakness !== undefined)
    faults.push(`BRIKK_ADMIN_TOKEN ${weakness}, which is too easy to guess; make one with: openssl rand -hex 32.`);

  const encryptionText = read("BRIKK_ENCRYPTION_KEY");
  const encryptionKeys = encryptionText === "" ? undefined : parseFernetKeys(encryptionText);
  // A secret is never repeated, so these faults have their own words.
  if (encryptionText !== "" && encryptionKeys === undefined)
    faults.push(
      `BRIKK_ENCRYPTION_KEY holds something other than Fernet keys separated by commas; ${NEW_ENCRYPTION_KEY}`,
    );
  if (production && encryptionKeys?.some(isGuessable))
    faults.push(
      `BRIKK_ENCRYPTION_KEY holds a key that is not random, so that whoever has the database can read what it seals; ${NEW_ENCRYPTION_KEY}`,
    );
  if (encryptionText === "" && production)
    faults.push(`BRIKK_ENCRYPTION_KEY is not set, and in production it has to be; ${NEW_ENCRYPTION_KEY}`);
  const selfService: SelfServiceConfig = {
    hardCap: usd("BRIKK_SELF_SERVICE_HARD_CAP_USD"),
    most: wholeNumber("BRIKK_SELF_SERVICE_MAX_KEYS", 1, 1_000_000),
    mostPerAddress: wholeNumber("BRIKK_SELF_SERVICE_MAX_KEYS_PER_ADDRESS", 1, 1_000_000),
    days: wholeNumber("BRIKK_SELF_SERVICE_KEY_DAYS", 1, 36_500),
  };
  const servesThemselves = flagOr("BRIKK_SELF_SERVICE_KEYS", loopback && !production);
  if (servesThemselves && production && setBy("BRIKK_SELF_SERVICE_HARD_CAP_USD") === undefined)
    faults.push(
      "BRIKK_SELF_SERVICE_HARD_CAP_USD is not set while anybody can make keys in production; set it to what each of those may cost you in a day, or BRIKK_SELF_SERVICE_KEYS=false.",
    );
  const allowedHosts = read("BRIKK_ALLOWED_HOSTS")
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "");
  for (const name of allowedHosts) {
    if (!HOST_NAME.test(name))
      faults.push(
        `BRIKK_ALLOWED_HOSTS has ${JSON.stringify(name)}; accepted are names such as brikk.example.com, without scheme and port, separated by commas.`,
      );
  }
  const trustedProxies = wholeNumber("TRUST_PROXY", 0, 10);
  const servesStrangers = !requireAuth || servesThemselves;
  const isForThisMachine = loopback && trustedProxies === 0 && !allowAnonymous && servesStrangers;
  const corsOrigins = read("CORS_ALLOWED_ORIGINS")
    .split(",")
    .map((origin) => origin.trim())
    .filter((origin) => origin !== "");
  for (const origin of corsOrigins) {
    if (origin === "*" ? production || corsOrigins.length > 1 : !isOrigin(origin))
      faults.push(
        `CORS_ALLOWED_ORIGINS has ${JSON.stringify(origin)}; accepted are origins such as https://app.example.com, separated by commas, or * alone outside production.`,
      );
  }

  const config: Config = {
    host,
    port: wholeNumber("PORT", 0, 65_535),
    production,
    databaseUrl,
    redisUrl: redisAddress("REDIS_URL"),
    redisTimeoutMs: wholeNumber("REDIS_TIMEOUT_MS", 10, 10_000),
    requireAuth,
    defaultSoftCap,
    defaultHardCap,
    rateLimitPerMin: wholeNumber("BRIKK_RATE_LIMIT_PER_MIN", 1, 1_000_000),
    budgetWebhook: budgetWebhook(),
    anonymousRateLimitPerMin: wholeNumber("BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN", 1, 1_000_000),
    providers,
    policies: file.policies.map(policyOf),
    maxRetries: wholeNumber("PROVIDER_MAX_RETRIES", 0, 10),
    requestTimeoutMs: seconds("BRIKK_REQUEST_TIMEOUT_SECONDS"),
    keepAliveMs: seconds("BRIKK_KEEP_ALIVE_SECONDS"),
    probeIntervalMs: read("PROVIDER_PROBE_SECONDS") === "" ? undefined : seconds("PROVIDER_PROBE_SECONDS"),
    maxInFlight: wholeNumber("BRIKK_MAX_IN_FLIGHT", 1, 1_000_000),
    maxEventLoopDelayMs: wholeNumber("BRIKK_MAX_EVENT_LOOP_DELAY_MS", 10, 60_000),
    adminToken,
    selfService: servesThemselves ? selfService : undefined,
    encryptionKeys,
    trustedProxies,
    allowedHosts: allowedHosts.length > 0 || isForThisMachine ? allowedHosts : undefined,
    corsOrigins,
    auditLogging: flag("ENABLE_AUDIT_LOGGING"),
    auditRetentionDays:
      read("BRIKK_AUDIT_RETENTION_DAYS") === "" ? undefined : wholeNumber("BRIKK_AUDIT_RETENTION_DAYS", 1, 36_500),
    maxConnectionsPerAddress: wholeNumber("BRIKK_MAX_CONNECTIONS_PER_ADDRESS", 1, 1_000_000),
    allowPrivateAddresses,
    maxBodyBytes: wholeNumber("BRIKK_MAX_BODY_BYTES", 1_024, 104_857_600),
    drainTimeoutMs: seconds("BRIKK_DRAIN_SECONDS"),
    usageRetentionDays:
      read("BRIKK_USAGE_RETENTION_DAYS") === "" ? undefined : wholeNumber("BRIKK_USAGE_RETENTION_DAYS", 32, 36_500),
    logLevel,
    simulator: {
      firstTokenMs: wholeNumber("SIMULATOR_FIRST_TOKEN_MS", 0, 600_000),
      tokensPerSecond: wholeNumber("SIMULATOR_TOKENS_PER_SECOND", 0, 1_000_000),
    },
    prices: file.prices,
  };
  if (faults.length > 0) throw new ConfigError(faults);
  return Object.freeze(config);
}

/** The key of Fernet's own specification, and whatever nobody drew: 32 random bytes have 30 different ones or so. */
function isGuessable({ signing, encryption }: FernetKey): boolean {
  const bytes = Buffer.concat([signing, encryption]);
  return new Set(bytes).size < 16 || bytes.toString("base64url") === "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4";
}

const policyOf = ({ name, candidates, strategy, max_price, applies_to, hedge }: PolicyEntry): PolicyConfig => ({
  name,
  candidates,
  strategy,
  maxPrice: max_price && {
    inputUsdPerMillion: max_price.input_usd_per_million,
    outputUsdPerMillion: max_price.output_usd_per_million,
  },
  appliesTo: applies_to,
  hedge: hedge && { afterMs: hedge.after_ms, maxExtraSpend: hedge.max_extra_spend },
});

/** The URL may hold a password, so it is never repeated. */
function databaseUrlFault(url: string): string | undefined {
  if (isPostgresUrl(url)) {
    const parsed = parsePostgresUrl(url);
    return parsed.kind === "faulty" ? parsed.fault : undefined;
  }
  if (/^sqlite:.+/.test(url)) return undefined;
  const scheme = /^[a-z][a-z0-9+.-]{0,19}:/i.exec(url)?.[0];
  return (
    `${scheme === undefined ? "names no kind of database" : `begins with "${scheme}"`}; ` +
    `accepted is sqlite:PATH, such as sqlite:./data/brikk.db, or ${POSTGRES_URL_FORM}`
  );
}

/** Nothing but where it is and who asks: options are set in one place, and a query would change them. */
function isRedisAddress(text: string): boolean {
  try {
    const { protocol, hostname, pathname, search, hash, username, password } = new URL(text);
    decodeURIComponent(`${username}${password}`);
    return (
      (protocol === "redis:" || protocol === "rediss:") &&
      hostname !== "" &&
      /^(\/\d{0,5})?$/.test(pathname) &&
      search === "" &&
      hash === ""
    );
  } catch {
    return false;
  }
}

/** The running process's own settings. */
export const loadConfigFromProcess = (): Config => loadConfig(process.env);

/** Where the running process' config file is, if it has one. */
export const configPathFromProcess = (): string | undefined => process.env["BRIKK_CONFIG"]?.trim() || undefined;
