import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { createPolling } from "../lib/polling.ts";
import type { Database, Statement } from "../storage/database.ts";
import { type ApiKey, type ApiKeyRow, apiKeyFrom } from "./api-key.ts";

/**
 * All keys in memory, for the look-up that every request makes.
 *
 * 1. `start()` loads everything and then asks twice a second for keys whose revision is higher than the highest seen, so a key
 *    that another process makes, changes or revokes is known here within a second. Every writer of a key or of one of its
 *    secrets raises the revision; an answer replaces what was known of a key, its secrets included. Answers come a page at a
 *    time, so that loading many keys takes little more memory than keeping them.
 * 2. `find(hash)` answers from memory, synchronously. On a miss it asks as in 1, so that a key made a moment ago works at
 *    once. One such query answers for all who wait, and it begins after each of them came; so any flood of unknown secrets
 *    costs one small query at a time.
 * 3. A hash that is still unknown is remembered as such for a second, at most MAX_UNKNOWN of them. Memory of a key comes first,
 *    so a secret that appears in between is not held back by this.
 *
 * A look-up by SHA-256 takes the place of a comparison in constant time. How long the look-up takes can tell of the digest that was
 * asked for at most, and whoever guesses secrets cannot steer digests: one that agrees with a stored one in its first bytes says
 * nothing of the secret behind that. So there is nothing to be learnt that `timingSafeEqual` on the whole digests, which are equal
 * once the look-up has found one, could still hide. Where a secret is compared with a single expected one, as the admin token is,
 * it is used (http/hooks/admin.ts).
 *
 * While the database does not answer, known keys keep working and unknown ones get `storage_unavailable`, never a 401.
 */
const POLL_INTERVAL_MS = 500;
const UNKNOWN_FOR_MS = 1_000;
const MAX_UNKNOWN = 10_000;
const KEYS_PER_PAGE = 2_000;

export interface FoundKey {
  readonly key: ApiKey;
  /** The first moment at which this secret of the key is no longer accepted, after a rotation. */
  readonly secretNotAfterMs: number | undefined;
  /** A rotation ended it at once, whatever the time is by the clock here. */
  readonly secretReplaced: boolean;
  /** Sealed; undefined: it has none. */
  readonly signingSecret: string | undefined;
}

export interface KeyRing {
  /** Loads all keys, then polls until `stop()`. Throws what the database throws. The timer does not keep the process alive. */
  start(): Promise<void>;
  stop(): void;
  /** Asks the database for changes now; resolves when every change that was durable before the call is known. */
  refresh(): Promise<void>;
  /** The key of a secret's hash; undefined when there is none. Rejects with the coded error `storage_unavailable`. */
  find(secretHash: string): FoundKey | undefined | Promise<FoundKey | undefined>;
  /** The same from memory alone; undefined says nothing about storage. */
  recall(secretHash: string): FoundKey | undefined;
  /** The newest known state of a key. */
  get(keyId: string): ApiKey | undefined;
  /** As it is stored, sealed; undefined when the key has none. */
  sealedSigningSecret(keyId: string): string | undefined;
}

const CHANGES = `select k.id, k.name, k.status, k.soft_cap_nano_usd, k.hard_cap_nano_usd, k.week_soft_cap_nano_usd, k.week_hard_cap_nano_usd,
    k.month_soft_cap_nano_usd, k.month_hard_cap_nano_usd, k.rate_limit_per_min, k.tokens_per_min, k.max_concurrent_requests, k.rescue,
    k.allowed_models, k.allowed_providers, k.allowed_ips, k.metadata, k.signing_required, k.signing_secret, k.origin, k.expires_at_ms, k.created_at_ms, k.revoked_at_ms, k.revision,
    s.secret_hash, s.created_at_ms as secret_created_at_ms, s.not_after_ms
  from (select * from api_keys where revision > ? order by revision limit ${KEYS_PER_PAGE}) k
    left join api_key_secrets s on s.key_id = k.id
  order by k.revision`;

type ChangeRow = ApiKeyRow & {
  readonly signing_secret: string | null;
  readonly secret_hash: string | null;
  readonly secret_created_at_ms: bigint | null;
  readonly not_after_ms: bigint | null;
};

interface KnownKey {
  readonly key: ApiKey;
  readonly signingSecret: string | undefined;
  readonly hashes: string[];
  /** When its newest secret was made, by the clock of whoever rotated it. */
  newestMs: number;
}

interface KnownSecret {
  readonly keyId: string;
  readonly notAfterMs: number | undefined;
}

export function createKeyRing(options: {
  readonly database: Database;
  readonly clock: Clock;
  /** Told of polls that failed; the ring goes on with what it knows and tries again. */
  readonly onRefreshFailed?: (error: unknown) => void;
}): KeyRing {
  const { database, clock, onRefreshFailed } = options;
  const keys = new Map<string, KnownKey>();
  const secrets = new Map<string, KnownSecret>();
  const unknownUntil = new Map<string, number>();
  let lastRevision = 0n;
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;

  async function loadChanges(): Promise<void> {
    let found: number;
    do {
      const statement: Statement = { sql: CHANGES, params: [lastRevision] };
      found = learn((await database.all(statement)) as unknown as ChangeRow[]);
    } while (found === KEYS_PER_PAGE);
  }

  /** Gives the number of keys. All of a page is read before anything of it is taken in, so that a row which cannot be read loses no other. */
  function learn(rows: readonly ChangeRow[]): number {
    const changed = new Map<string, KnownKey>();
    const theirSecrets = new Map<string, KnownSecret>();
    for (const row of rows) {
      let known = changed.get(row.id);
      if (known === undefined) {
        known = { key: apiKeyFrom(row), signingSecret: row.signing_secret ?? undefined, hashes: [], newestMs: 0 };
        changed.set(row.id, known);
      }
      if (row.secret_hash === null) continue;
      known.hashes.push(row.secret_hash);
      known.newestMs = Math.max(known.newestMs, row.not_after_ms === null ? Number(row.secret_created_at_ms) : 0);
      theirSecrets.set(row.secret_hash, {
        keyId: row.id,
        notAfterMs: row.not_after_ms === null ? undefined : Number(row.not_after_ms),
      });
    }
    for (const [id, known] of changed) {
      for (const hash of keys.get(id)?.hashes ?? []) secrets.delete(hash);
      keys.set(id, known);
    }
    for (const [hash, secret] of theirSecrets) secrets.set(hash, secret);
    lastRevision = rows.at(-1)?.revision ?? lastRevision;
    return changed.size;
  }

  function run(): Promise<void> {
    running = loadChanges().finally(() => {
      running = undefined;
    });
    return running;
  }

  /** A query under way may have read before the asker's key was made; so whoever comes then shares the one after it. */
  function refresh(): Promise<void> {
    if (running === undefined) return run();
    const startNext = (): Promise<void> => {
      next = undefined;
      return run();
    };
    next ??= running.then(startNext, startNext);
    return next;
  }

  function recall(secretHash: string): FoundKey | undefined {
    const secret = secrets.get(secretHash);
    if (secret === undefined) return undefined;
    const { keyId, notAfterMs } = secret;
    const known = keys.get(keyId)!;
    return {
      key: known.key,
      secretNotAfterMs: notAfterMs,
      // Whoever rotated wrote both moments by one clock. A clock that is behind it would take the secret for one in its grace.
      secretReplaced: notAfterMs !== undefined && notAfterMs <= known.newestMs,
      signingSecret: known.signingSecret,
    };
  }

  async function ask(secretHash: string): Promise<FoundKey | undefined> {
    try {
      await refresh();
    } catch (cause) {
      throw new BrikkError(
        "storage_unavailable",
        "The key could not be checked because the gateway's storage does not answer. The key may well be valid; try again shortly.",
        { cause, retryAfterMs: 1_000 },
      );
    }
    const found = recall(secretHash);
    if (found === undefined) rememberUnknown(secretHash);
    return found;
  }

  function rememberUnknown(secretHash: string): void {
    unknownUntil.delete(secretHash);
    if (unknownUntil.size >= MAX_UNKNOWN) {
      const oldest = unknownUntil.keys().next();
      if (!oldest.done) unknownUntil.delete(oldest.value);
    }
    unknownUntil.set(secretHash, clock.monotonicMs() + UNKNOWN_FOR_MS);
  }

  const polling = createPolling({ refresh, pauseMs: POLL_INTERVAL_MS, onFailed: (error) => onRefreshFailed?.(error) });

  return {
    start: () => polling.start(),
    stop: () => polling.stop(),
    refresh,
    find(secretHash) {
      const found = recall(secretHash);
      if (found !== undefined) return found;
      const until = unknownUntil.get(secretHash);
      if (until !== undefined && clock.monotonicMs() < until) return undefined;
      return ask(secretHash);
    },
    recall,
    get: (keyId) => keys.get(keyId)?.key,
    sealedSigningSecret: (keyId) => keys.get(keyId)?.signingSecret,
  };
}
