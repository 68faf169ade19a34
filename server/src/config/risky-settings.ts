import type { Config } from "../config.ts";
import { isPostgresUrl, parsePostgresUrl } from "../lib/postgres-address.ts";
import { isNearHost } from "./near-host.ts";

/** A setting that works, and that an operator should know about. */
export interface RiskySetting {
  readonly setting: string;
  /** What is the matter and what to do; without any secret. */
  readonly sentence: string;
}

/** What is not refused, as it may be meant, and is warned of at every start: secrets that go over foreign networks in clear. */
export function riskySettings(config: Pick<Config, "providers" | "databaseUrl" | "redisUrl">): readonly RiskySetting[] {
  const risks: RiskySetting[] = [];
  for (const { name, apiKey, baseUrl } of config.providers) {
    const { protocol, hostname } = new URL(baseUrl);
    if (apiKey === undefined || protocol !== "http:" || isNearHost(hostname)) continue;
    risks.push({
      setting: `base address of ${name}`,
      sentence: `The key of ${name} goes to ${hostname} without TLS, where anybody on the way can read it. Use https://.`,
    });
  }
  const database = isPostgresUrl(config.databaseUrl) ? parsePostgresUrl(config.databaseUrl) : undefined;
  if (database?.kind === "address" && database.address.tls === "none" && !isNearHost(database.address.host))
    risks.push({
      setting: "DATABASE_URL",
      sentence: `The database at ${database.address.host} is reached without TLS, so that anybody on the way can read and change what goes there. Add sslmode=verify-full to DATABASE_URL.`,
    });
  const redis = config.redisUrl === undefined ? undefined : new URL(config.redisUrl);
  if (redis?.protocol === "redis:" && !isNearHost(redis.hostname))
    risks.push({
      setting: "REDIS_URL",
      sentence: `Redis at ${redis.hostname} is reached without TLS, so that anybody on the way can read its password and change what is counted there. Use rediss://.`,
    });
  return risks;
}
