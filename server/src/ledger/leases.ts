import type { ApiKey } from "../access/api-key.ts";
import type { Clock } from "../lib/clock.ts";
import { reach } from "../lib/fault-point.ts";
import { uuidv7 } from "../lib/ids.ts";
import { type NanoUsd, nanoUsd } from "../lib/money.ts";
import { type Database, type Row, type Statement, StorageUnavailable } from "../storage/database.ts";
import { BudgetAccount, newWindowOf } from "./budget-account.ts";
import type { BudgetStatements, LeaseWant, WindowKeep, WindowRow } from "./budget-statements.ts";
import { type Budget, timeWindowAt } from "./budgets.ts";

/**
 * What this process may spend. The database holds each budget window; a process leases a slice of it and reserves from the
 * slice in memory, so a request waits for the database only when its slice is empty.
 *
 * 1. `hold` sets an amount aside in every account of a key, or in none. When a slice is too small, the claim waits its turn.
 * 2. One transaction at a time leases for all claims that wait, and for accounts that run low (`leaseRound`). Then the claims
 *    are decided in the order in which they came; who does not fit is told so.
 * 3. `settle` takes a reservation back when its cost is committed (see usage-writer.ts).
 * 4. `tick`, once a second: what a slice does not need goes back, and the owner is heard of. Owners that fell silent are
 *    written off: what their events do not account for counts as spent.
 *
 * The invariant between memory and database: the slices of this process are never more than what its leases there say, however
 * a transaction ended. A lease counts here once its transaction is known to have succeeded; what is given back is no longer
 * counted before the transaction begins.
 */
export interface Leases {
  readonly ownerId: string;
  /** False from a failed transaction on leases to the next good one. */
  readonly reachable: boolean;
  /** The accounts of a key's budgets at a moment. */
  accountsOf(key: ApiKey, atMs: number): readonly BudgetAccount[];
  /** Sets the amount aside, if memory alone can say that it fits. */
  holdNow(accounts: readonly BudgetAccount[], amount: NanoUsd): boolean;
  /** Sets aside what fits, with a lease where one is needed. Rejects with what the database throws. */
  hold(claim: Claim): Promise<Held | undefined>;
  /** A settlement of these accounts sets out to the database; `settle` follows, however it ends. */
  beginSettling(accounts: readonly BudgetAccount[]): void;
  /** Takes a reservation back whose cost is committed. */
  settle(accounts: readonly BudgetAccount[], amount: NanoUsd, cost: NanoUsd): void;
  /** Takes in rows of windows that a transaction changed, and gives their accounts. */
  learn(rows: readonly Row[]): readonly BudgetAccount[];
  /** Asks the database where the accounts stand now. */
  refresh(accounts: readonly BudgetAccount[]): Promise<void>;
  /** One round of upkeep; runs by itself once a second. Never rejects. */
  tick(): Promise<void>;
  /** Gives everything back that is not reserved. */
  close(): Promise<void>;
}

/** What a request needs of every account. */
export interface Claim {
  readonly accounts: readonly BudgetAccount[];
  readonly full: NanoUsd;
  /** The least that is of use. */
  readonly least: NanoUsd;
  /** The most that is of use where no more than `available` is there; undefined: nothing. */
  shrink(available: NanoUsd): Held | undefined;
}

export interface Held {
  readonly amount: NanoUsd;
  /** Set where the answer must be shorter than was asked for. */
  readonly maxOutputTokens?: number;
}

export interface LeasesOptions {
  readonly database: Database;
  readonly statements: BudgetStatements;
  readonly clock: Clock;
  readonly budgetsOf: (key: ApiKey) => readonly Budget[];
  /** Nobody else serves from this database, so whoever held leases before is gone. */
  readonly soleOwner: boolean;
  /** An owner that was not heard of for so long is written off. */
  readonly silentAfterMs?: number;
  /** Told of every transaction that leased or gave back. */
  readonly onTransaction?: () => void;
  readonly onWrittenOff?: (writeOff: WriteOff) => void;
  /** Told when upkeep failed; it is tried again. */
  readonly onUpkeepFailed?: (error: unknown) => void;
}

export interface WriteOff {
  readonly ownerId: string;
  readonly budgetId: string;
  readonly windowStartMs: number;
  readonly amount: NanoUsd;
}

const TICK_MS = 1_000;
const SILENT_AFTER_MS = 15_000;
/** Before everything that a clock can have said, the clock of a machine that is set back included. */
const EVER_MS = 8.64e15;
/** How long an account stays after its window's end, for whoever still settles to it. */
const KEEP_ENDED_MS = 3_600_000;
const TICKS_PER_CLEARING = 600;

interface Waiting {
  readonly claim: Claim;
  readonly resolve: (held: Held | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** A key's accounts and the time for which they are the current ones. */
interface AccountList {
  readonly accounts: readonly BudgetAccount[];
  readonly startMs: number;
  readonly endMs: number;
}

/** Opens the accounts with where the windows stand. Throws what the database throws. */
export async function openLeases(options: LeasesOptions): Promise<Leases> {
  const { database, statements, clock, budgetsOf, silentAfterMs = SILENT_AFTER_MS } = options;
  const ticksPerSweep = Math.max(1, Math.floor(silentAfterMs / 3 / TICK_MS));
  const ownerId = uuidv7(clock.now());
  const accounts = new Map<string, BudgetAccount>();
  /** Those that hold something or were used lately: the only ones that need upkeep. */
  const active = new Set<BudgetAccount>();
  let lists = new WeakMap<ApiKey, AccountList>();
  const waiting: Waiting[] = [];
  const low = new Set<BudgetAccount>();
  const standings = new Map<string, { spent: bigint; leased: bigint }>();
  let chain: Promise<void> = Promise.resolve();
  let roundQueued = false;
  let reachableSinceMs: number | undefined = clock.monotonicMs();
  let ticks = 0;
  let turns = 0;
  let closed = false;

  const nameOf = (budgetId: string, startMs: number): string => `${budgetId}@${startMs}`;

  const accountOf = (budget: Budget, atMs: number): BudgetAccount => {
    const window = timeWindowAt(budget.window, atMs);
    const name = nameOf(budget.id, window.startMs);
    let account = accounts.get(name);
    if (!account) {
      accounts.set(name, (account = new BudgetAccount(budget, window, standings.get(name))));
      standings.delete(name);
    }
    account.takeBudget(budget);
    return account;
  };

  const accountsOf = (key: ApiKey, atMs: number): readonly BudgetAccount[] => {
    const known = lists.get(key);
    if (known && known.startMs <= atMs && atMs < known.endMs) return known.accounts;
    const list = budgetsOf(key).map((budget) => accountOf(budget, atMs));
    lists.set(key, {
      accounts: list,
      startMs: Math.max(...list.map(({ startMs }) => startMs)),
      endMs: Math.min(...list.map(({ endMs }) => endMs)),
    });
    return list;
  };

  /** One transaction on leases at a time: a grant and a return that crossed could not be told apart afterwards. */
  const inTurn = (act: () => Promise<void>): Promise<void> => (chain = chain.then(act, act));

  const transact = async (list: readonly Statement[]): Promise<Row[]> => {
    try {
      const rows = await database.transact([statements.takeTurn(ownerId, ++turns), ...list]);
      reachableSinceMs ??= clock.monotonicMs();
      options.onTransaction?.();
      return rows.flat();
    } catch (error) {
      reachableSinceMs = undefined;
      throw error;
    }
  };

  const hold = (list: readonly BudgetAccount[], amount: bigint): void => {
    const nowMs = clock.monotonicMs();
    for (const account of list) {
      account.hold(amount, nowMs);
      active.add(account);
      if (account.runsLow) low.add(account);
    }
    if (low.size > 0) queueRound();
  };

  const queueRound = (): void => {
    if (roundQueued || closed) return;
    roundQueued = true;
    // What arrives in this turn of the event loop goes together.
    void inTurn(() => new Promise<void>((resolve) => setImmediate(resolve)).then(leaseRound));
  };

  const leaseRound = async (): Promise<void> => {
    roundQueued = false;
    const round = waiting.splice(0);
    const wants = wantsOf(round, low);
    low.clear();
    const fresh = new Set<BudgetAccount>();
    for (const account of [...round.flatMap(({ claim }) => claim.accounts), ...wants.keys()])
      if (!account.known) fresh.add(account);
    try {
      if (wants.size > 0) {
        reach("lease-wanted");
        const list = [...wants.values()];
        const rows = await transact([
          ...statements.addWindows([...fresh].map(newWindowOf)),
          ...statements.readWindows([...fresh].map(newWindowOf)),
          ...statements.lockWindows(list),
          ...statements.grant(ownerId, list),
        ]);
        reach("lease-granted");
        for (const account of fresh) account.known = true;
        learn(rows);
        for (const row of rows) {
          const granted = row["grant_nano_usd"];
          if (typeof granted === "bigint") takeIn(accountOfRow(row)!, granted, wants);
        }
      }
    } catch (error) {
      for (const account of wants.keys()) {
        account.unsure = true;
        active.add(account);
      }
      // Nor would those who came meanwhile fare better; their own turn could take as long again to fail.
      for (const { claim, reject } of [...round, ...waiting.splice(0)]) {
        for (const account of claim.accounts) account.awaited -= 1;
        reject(error);
      }
      return;
    }
    for (const { claim, resolve, reject } of round) {
      for (const account of claim.accounts) account.awaited -= 1;
      try {
        resolve(decide(claim));
      } catch (error) {
        reject(error);
      }
    }
  };

  const takeIn = (account: BudgetAccount, granted: bigint, wants: ReadonlyMap<BudgetAccount, LeaseWant>): void => {
    const want = wants.get(account)!;
    account.takeLease(granted, want.hardCap);
    active.add(account);
    if (granted < want.needed + want.spare / 2n) account.dry = true;
  };

  const decide = (claim: Claim): Held | undefined => {
    const held = claim.accounts.every((account) => account.fits(claim.full))
      ? { amount: claim.full }
      : claim.shrink(availableIn(claim.accounts));
    if (held) hold(claim.accounts, held.amount);
    return held;
  };

  const accountOfRow = (row: Row): BudgetAccount | undefined =>
    accounts.get(nameOf(String(row["budget_id"]), Number(row["window_start_ms"])));

  const learn = (rows: readonly Row[]): readonly BudgetAccount[] =>
    rows.flatMap((row) => {
      const account = accountOfRow(row);
      if (!account || row["spent_nano_usd"] === undefined) return [];
      const { spent_nano_usd: spent, leased_nano_usd: leased } = row as unknown as WindowRow;
      account.spent = spent;
      account.leased = leased;
      return account;
    });

  const giveBack = async (keepOf: (account: BudgetAccount) => bigint): Promise<void> => {
    const keeps: WindowKeep[] = [];
    const returning: BudgetAccount[] = [];
    let holds = false;
    for (const account of active) {
      const keep = keepOf(account);
      holds ||= account.slice > 0n;
      if (account.slice <= keep && !account.unsure) continue;
      if (account.slice > keep) account.slice = keep;
      // A settlement on its way is in what is kept, and the lease may be without it already: that is seen the next time.
      account.unsure = account.settling > 0;
      returning.push(account);
      keeps.push({ budgetId: account.budget.id, startMs: account.startMs, keep: account.slice });
    }
    if (keeps.length > 0) {
      reach("release-wanted");
      try {
        learn(await transact([...statements.lockWindows(keeps), ...statements.release(ownerId, keeps)]));
      } catch (error) {
        for (const account of returning) account.unsure = true;
        throw error;
      }
      reach("released");
    } else if (holds) await transact([]);
  };

  /** Counts what silent owners hold as spent. Only who was heard of itself all that time may judge: else it is the database that was away. */
  const sweep = async (silentMs: number): Promise<void> => {
    if (silentMs > 0 && (reachableSinceMs === undefined || clock.monotonicMs() - reachableSinceMs < silentMs)) {
      // Asking tells whether the database is there at all.
      await transact([]);
      return;
    }
    for (const row of await database.all(statements.silentOwners(ownerId, silentMs))) {
      const silent = String(row["owner_id"]);
      reach("write-off-wanted");
      const writeOffs = (await database.transact(statements.writeOff(silent, silentMs))).flat();
      reach("written-off");
      for (const lost of writeOffs) {
        if (lost["written_off_nano_usd"] === undefined) continue;
        options.onWrittenOff?.({
          ownerId: silent,
          budgetId: String(lost["budget_id"]),
          windowStartMs: Number(lost["window_start_ms"]),
          amount: nanoUsd(lost["written_off_nano_usd"] as bigint),
        });
      }
    }
  };

  const forgetEnded = (wallNowMs: number): void => {
    for (const [name, account] of accounts)
      if (!active.has(account) && account.awaited === 0 && wallNowMs - account.endMs > KEEP_ENDED_MS)
        accounts.delete(name);
    // They may hold what was just forgotten, and a wall clock that is set back asks for it again.
    lists = new WeakMap();
  };

  const tick = (): Promise<void> =>
    inTurn(async () => {
      const wallNowMs = clock.now();
      const nowMs = clock.monotonicMs();
      for (const account of active) account.tick();
      try {
        await giveBack((account) => account.worthKeeping(nowMs, wallNowMs));
        for (const account of active) if (account.quiet) active.delete(account);
        if (++ticks % TICKS_PER_CLEARING === 0) forgetEnded(wallNowMs);
        if (!options.soleOwner && ticks % ticksPerSweep === 0) await sweep(silentAfterMs);
      } catch (error) {
        reachableSinceMs = undefined;
        options.onUpkeepFailed?.(error);
      }
    });

  // Whoever held leases on a database of our own is gone, whenever it was last heard of.
  if (options.soleOwner) await sweep(-EVER_MS);
  const rows = await database.all({
    sql: "select budget_id, window_start_ms, spent_nano_usd, leased_nano_usd from budget_windows where window_end_ms > ?",
    params: [clock.now()],
  });
  for (const row of rows) {
    standings.set(nameOf(String(row["budget_id"]), Number(row["window_start_ms"])), {
      spent: row["spent_nano_usd"] as bigint,
      leased: row["leased_nano_usd"] as bigint,
    });
  }
  let upkeep: Promise<void> | undefined;
  // While the database hangs, one round waits for it and not one for every second.
  const timer = setInterval(() => {
    upkeep ??= tick().finally(() => (upkeep = undefined));
  }, TICK_MS);
  timer.unref();

  return {
    ownerId,
    get reachable() {
      return reachableSinceMs !== undefined;
    },
    accountsOf,
    holdNow(list, amount) {
      for (const account of list) if (account.awaited > 0 || !account.fits(amount)) return false;
      hold(list, amount);
      return true;
    },
    hold: (claim) =>
      new Promise((resolve, reject) => {
        if (closed) return reject(new StorageUnavailable("The leases are closed."));
        for (const account of claim.accounts) account.awaited += 1;
        waiting.push({ claim, resolve, reject });
        queueRound();
      }),
    beginSettling(list) {
      for (const account of list) account.settling += 1;
    },
    settle(list, amount, cost) {
      for (const account of list) {
        account.settling -= 1;
        account.settle(amount, cost);
      }
    },
    learn,
    async refresh(list) {
      const keys = list.map(({ budget, startMs }) => ({ budgetId: budget.id, startMs }));
      const found = await Promise.all(statements.readWindows(keys).map((statement) => database.all(statement)));
      learn(found.flat());
    },
    tick,
    async close() {
      clearInterval(timer);
      await inTurn(async () => {
        closed = true;
        try {
          await giveBack((account) => account.reserved);
          await database.transact([statements.forget(ownerId)]);
        } catch (error) {
          // What is not given back now is written off when this owner is missed.
          options.onUpkeepFailed?.(error);
        }
      });
    },
  };
}

/** What a round leases: for each account with a hard cap what its claims need beyond what is there, and something to spare. */
function wantsOf(round: readonly Waiting[], low: ReadonlySet<BudgetAccount>): Map<BudgetAccount, LeaseWant> {
  const sums = new Map<BudgetAccount, { full: bigint; least: bigint }>();
  for (const { claim } of round) {
    for (const account of claim.accounts) {
      if (account.budget.hardCap === undefined) continue;
      const sum = sums.get(account);
      sums.set(account, {
        full: (sum?.full ?? 0n) + claim.full,
        least: sum !== undefined && sum.least < claim.least ? sum.least : claim.least,
      });
    }
  }
  for (const account of low)
    if (!sums.has(account) && account.budget.hardCap !== undefined) sums.set(account, { full: 0n, least: 0n });
  const wants = new Map<BudgetAccount, LeaseWant>();
  for (const [account, { full, least }] of sums) {
    const needed = atLeastZero(full - account.available);
    wants.set(account, {
      budgetId: account.budget.id,
      startMs: account.startMs,
      hardCap: account.budget.hardCap!,
      needed,
      least: atLeastZero(least - account.available),
      spare: account.spareWanted(full),
    });
  }
  return wants;
}

const atLeastZero = (amount: bigint): bigint => (amount > 0n ? amount : 0n);

/** What all accounts with a hard cap can give. */
function availableIn(accounts: readonly BudgetAccount[]): NanoUsd {
  let least: bigint | undefined;
  for (const { budget, available } of accounts)
    if (budget.hardCap !== undefined && (least === undefined || available < least)) least = available;
  return nanoUsd(least ?? 0n);
}
