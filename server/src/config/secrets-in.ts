import type { Config } from "../config.ts";
import { isPostgresUrl, parsePostgresUrl } from "../lib/postgres-address.ts";

/** Every secret that the settings hold, in the spellings in which one may come to light. */
export function secretsIn(
  config: Pick<Config, "providers" | "adminToken" | "encryptionKeys" | "databaseUrl" | "redisUrl" | "budgetWebhook">,
): readonly string[] {
  const database = isPostgresUrl(config.databaseUrl) ? parsePostgresUrl(config.databaseUrl) : undefined;
  const redis = config.redisUrl === undefined ? undefined : new URL(config.redisUrl).password;
  return [
    ...config.providers.map(({ apiKey }) => apiKey),
    config.adminToken,
    ...(config.encryptionKeys ?? []).map(({ signing, encryption }) =>
      Buffer.concat([signing, encryption]).toString("base64url"),
    ),
    ...(database?.kind === "address" ? [database.address.password] : []),
    ...(redis ? [redis, decodeURIComponent(redis)] : []),
    ...(config.budgetWebhook === undefined ? [] : webhookSecrets(config.budgetWebhook)),
  ].filter((secret) => secret !== undefined);
}

/** Many receivers are known by their path alone, so that the path is a secret as well. */
function webhookSecrets({ url, secrets }: NonNullable<Config["budgetWebhook"]>): readonly string[] {
  const { pathname, search, password } = new URL(url);
  return [
    ...secrets.map((bytes) => bytes.toString("base64")),
    ...(pathname === "/" && search === "" ? [] : [`${pathname}${search}`]),
    ...(password === "" ? [] : [password, decodeURIComponent(password)]),
  ];
}
