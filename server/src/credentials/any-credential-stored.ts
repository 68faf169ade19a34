import type { ProviderConfig } from "../config.ts";
import type { Database } from "../storage/database.ts";

/** Whether one of the providers has a stored credential, which then is no question of the environment any more. */
export async function anyCredentialStored(
  database: Database,
  providers: readonly Pick<ProviderConfig, "name">[],
): Promise<boolean> {
  const rows = await database.all({
    sql: "select provider from provider_credentials where sealed is not null",
    params: [],
  });
  return rows.some((row) => providers.some(({ name }) => name === row["provider"]));
}
