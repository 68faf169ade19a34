import { type Vault, VaultError } from "../access/vault.ts";
import { providerCredentialPurpose } from "../access/vault-purposes.ts";
import type { ProviderConfig } from "../config.ts";
import { createPolling } from "../lib/polling.ts";
import type { Database } from "../storage/database.ts";

/**
 * The stored credentials in memory, opened.
 *
 * `start()` loads them and then asks twice a second for rows whose revision is higher than the highest seen, so that what another
 * process saves or removes holds here within a second. While the database does not answer, what is known goes on. A row
 * that none of the encryption keys opens takes nothing from what is known: it may be the same credential, sealed anew under a key
 * that this process was not given yet.
 */
export interface CredentialRing {
  /** Throws what the database throws. The timer does not keep the process alive. */
  start(): Promise<void>;
  stop(): void;
  /** Asks for changes now; resolves when every change that was durable before the call is in force. */
  refresh(): Promise<void>;
  /** The providers as they are to be asked: a stored credential in the place of the environment's. */
  applyTo(providers: readonly ProviderConfig[]): readonly ProviderConfig[];
  /** Whether one is stored for the provider, readable or not. */
  has(provider: string): boolean;
  /** The providers whose credential cannot be opened; one of these without an older one in memory is not asked at all. */
  readonly unreadable: readonly string[];
}

const POLL_INTERVAL_MS = 500;

const CHANGES = "select provider, sealed, revision from provider_credentials where revision > ? order by revision";

interface ChangeRow {
  readonly provider: string;
  readonly sealed: string | null;
  readonly revision: bigint;
}

interface Held {
  /** Undefined: there is one, and it was never readable here. */
  readonly credential: string | undefined;
  readonly readable: boolean;
}

export function createCredentialRing(options: {
  readonly database: Database;
  readonly vault: Vault;
  /** Called when something changed, and then what `applyTo` gives is another. */
  readonly onChange: () => void;
  readonly onUnreadable: (provider: string, error: VaultError) => void;
  readonly onRefreshFailed: (error: unknown) => void;
}): CredentialRing {
  const { database, vault, onChange, onUnreadable, onRefreshFailed } = options;
  const held = new Map<string, Held>();
  let lastRevision = 0n;
  let latest: Promise<void> = Promise.resolve();

  const hold = ({ provider, sealed }: ChangeRow): void => {
    if (sealed === null) return void held.delete(provider);
    try {
      held.set(provider, { credential: vault.open(sealed, providerCredentialPurpose(provider)), readable: true });
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      held.set(provider, { credential: held.get(provider)?.credential, readable: false });
      onUnreadable(provider, error);
    }
  };

  async function loadChanges(): Promise<void> {
    const rows = (await database.all({ sql: CHANGES, params: [lastRevision] })) as unknown as ChangeRow[];
    for (const row of rows) {
      hold(row);
      lastRevision = row.revision;
    }
    if (rows.length > 0) onChange();
  }

  // One after the other: of two at once the later answer could be the older one.
  const refresh = (): Promise<void> => {
    latest = latest.then(loadChanges, loadChanges);
    return latest;
  };

  const polling = createPolling({ refresh, pauseMs: POLL_INTERVAL_MS, onFailed: onRefreshFailed });

  return {
    start: () => polling.start(),
    stop: () => polling.stop(),
    refresh,
    applyTo: (providers) =>
      providers.map((provider) => {
        const own = held.get(provider.name);
        if (own === undefined) return provider;
        // Neither another credential nor none is what was meant, so nobody is asked.
        return { ...provider, apiKey: own.credential, keyless: provider.keyless && own.credential !== undefined };
      }),
    has: (provider) => held.has(provider),
    get unreadable() {
      return [...held].filter(([, { readable }]) => !readable).map(([provider]) => provider);
    },
  };
}
