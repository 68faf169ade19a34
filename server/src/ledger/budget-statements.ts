import { inPieces } from "../lib/pieces.ts";
import type { DialectName, SqlValue, Statement } from "../storage/database.ts";
import type { BudgetWindow } from "../access/caps.ts";

/**
 * The SQL that moves money between a budget window and the leases on it. Every transaction that does so
 *
 * 1. says that its owner lives (`beat`, or `takeTurn` where it grants or releases), which holds off whoever would give the owner up,
 * 2. makes sure that the windows' rows are there (`addWindows`),
 * 3. locks them, in one order, so that two transactions never wait for each other (`lockWindows`; SQLite has one writer),
 * 4. reads and changes them and their leases, which nobody else touches as long as the window is locked.
 *
 * Each statement keeps, for a window w and its leases l:
 *
 *   w.leased = sum(l.leased)    w.written_off = sum(l.written_off)    w.spent = cost of the events + w.written_off
 *   w.spent + w.leased <= hard cap, but for what was spent without a lease (w.unleased)
 */
export interface BudgetStatements {
  addWindows(windows: readonly NewWindow[]): Statement[];
  lockWindows(windows: readonly WindowKey[]): Statement[];
  /** Gives rows {@link WindowRow}. */
  readWindows(windows: readonly WindowKey[]): Statement[];
  /** Takes what is wanted, as far as the cap allows. Gives rows {@link WindowRow} with `grant_nano_usd`. */
  grant(ownerId: string, wants: readonly LeaseWant[]): Statement[];
  /** Moves costs of committed events from the owner's leases to `spent`. Gives rows {@link WindowRow}. */
  settle(ownerId: string, costs: readonly WindowCost[]): Statement[];
  /** Gives back what an owner holds above what it keeps. Gives rows {@link WindowRow}. */
  release(ownerId: string, keeps: readonly WindowKeep[]): Statement[];
  /** Says that the owner lives. */
  beat(ownerId: string): Statement;
  /**
   * The same for the owner's transaction of that number; fails, and the transaction with it, where one of a higher number came
   * before. So what the owner gave up waiting for cannot take effect behind what it did since.
   */
  takeTurn(ownerId: string, turn: number): Statement;
  /** Owners that have not been heard of for that long, by the database's own clock. Gives rows {owner_id}. */
  silentOwners(ownerId: string, silentMs: number): Statement;
  /** Counts all that an owner holds as spent, if it is still silent. Gives rows {budget_id, window_start_ms, written_off_nano_usd} of what it held. */
  writeOff(ownerId: string, silentMs: number): Statement[];
  /** Forgets an owner that holds nothing any more. */
  forget(ownerId: string): Statement;
}

export interface WindowKey {
  readonly budgetId: string;
  readonly startMs: number;
}

export interface NewWindow extends WindowKey {
  readonly endMs: number;
  readonly scopeId: string;
  readonly window: BudgetWindow;
}

export interface LeaseWant extends WindowKey {
  readonly hardCap: bigint;
  /** For all who wait; granted whole if it fits. */
  readonly needed: bigint;
  /** The least that helps anybody who waits; when no more is left, all that is left is granted. */
  readonly least: bigint;
  /** On top of what is needed: at most an eighth of what then is left, so that slices shrink near the cap. */
  readonly spare: bigint;
}

export interface WindowCost extends WindowKey {
  readonly cost: bigint;
}

export interface WindowKeep extends WindowKey {
  readonly keep: bigint;
}

/** A window after a change, with bigints. */
export interface WindowRow {
  readonly budget_id: string;
  readonly window_start_ms: bigint;
  readonly spent_nano_usd: bigint;
  readonly leased_nano_usd: bigint;
}

export function createBudgetStatements(dialect: DialectName): BudgetStatements {
  const postgres = dialect === "postgres";
  const least = postgres ? "least" : "min";
  const greatest = postgres ? "greatest" : "max";
  const nowMs = postgres
    ? "cast(extract(epoch from clock_timestamp()) * 1000 as bigint)"
    : "cast(unixepoch('subsec') * 1000 as integer)";

  /** One statement for each handful of windows, which it finds in a table `d` of the given columns: text first, whole numbers after. */
  const forEach = <T extends WindowKey>(
    windows: readonly T[],
    columns: string,
    row: (window: T) => readonly SqlValue[],
    texts: number,
    sql: string,
    params: readonly SqlValue[] = [],
  ): Statement[] => {
    return inPieces(windows.toSorted(inLockOrder)).map((piece) => {
      const rows = piece.map(row);
      const marks = rows[0]!.map((_, column) => (column < texts ? "cast(? as text)" : "cast(? as bigint)")).join(", ");
      return {
        sql: `with d(${columns}) as (values ${rows.map(() => `(${marks})`).join(", ")}) ${sql}`,
        params: [...rows.flat(), ...params],
      };
    });
  };

  return {
    // What was spent in the window before there was a row for it is in the roll-ups.
    addWindows: (windows) =>
      forEach(
        windows,
        "b, s, k, t, e",
        ({ budgetId, scopeId, window, startMs, endMs }) => [budgetId, scopeId, window, startMs, endMs],
        3,
        `insert into budget_windows (budget_id, window_start_ms, window_end_ms, scope_id, window_kind, spent_nano_usd, leased_nano_usd,
            written_off_nano_usd, unleased_nano_usd, granted_cap_nano_usd, grant_nano_usd)
          select n.b, n.t, n.e, n.s, n.k, n.spent, 0, 0, n.spent, null, 0
          from (select d.b, d.t, d.e, d.s, d.k, coalesce((select sum(h.cost_nano_usd) from usage_hourly h
              where h.key_id = d.s and h.hour_start_ms >= d.t and h.hour_start_ms < d.e), 0) as spent from d) n
          where true on conflict (budget_id, window_start_ms) do nothing`,
      ),

    lockWindows: (windows) =>
      postgres
        ? forEach(
            windows,
            "b, t",
            ({ budgetId, startMs }) => [budgetId, startMs],
            1,
            `select 1 as locked from budget_windows w join d on w.budget_id = d.b and w.window_start_ms = d.t
              order by w.budget_id collate "C", w.window_start_ms for update of w`,
          )
        : [],

    readWindows: (windows) =>
      forEach(
        windows,
        "b, t",
        ({ budgetId, startMs }) => [budgetId, startMs],
        1,
        `select ${ROW} from budget_windows w join d on w.budget_id = d.b and w.window_start_ms = d.t`,
      ),

    grant: (ownerId, wants) => [
      ...forEach(
        wants,
        "b, t, cap, needed, least, spare",
        (want) => [want.budgetId, want.startMs, want.hardCap, want.needed, want.least, want.spare],
        1,
        `update budget_windows as w set
            leased_nano_usd = w.leased_nano_usd + s.amount,
            grant_nano_usd = s.amount,
            granted_cap_nano_usd = case when s.amount = 0 then w.granted_cap_nano_usd
              else ${greatest}(coalesce(w.granted_cap_nano_usd, 0), s.cap) end
          from (select r.b, r.t, r.cap, case
                when r.room >= r.needed then r.needed + ${least}(r.spare, (r.room - r.needed) / 8)
                when r.room >= r.least and r.room > 0 then r.room
                else 0 end as amount
              from (select d.*, d.cap - v.spent_nano_usd - v.leased_nano_usd as room
                from d join budget_windows v on v.budget_id = d.b and v.window_start_ms = d.t) r) s
          where w.budget_id = s.b and w.window_start_ms = s.t
            and (s.amount = 0 or w.spent_nano_usd + w.leased_nano_usd + s.amount <= s.cap)
          returning ${ROW}, grant_nano_usd`,
      ),
      ...forEach(
        wants,
        "b, t",
        ({ budgetId, startMs }) => [budgetId, startMs],
        1,
        `insert into leases (owner_id, budget_id, window_start_ms, leased_nano_usd, written_off_nano_usd)
          select cast(? as text), w.budget_id, w.window_start_ms, w.grant_nano_usd, 0
          from budget_windows w join d on w.budget_id = d.b and w.window_start_ms = d.t where w.grant_nano_usd > 0
          on conflict (owner_id, budget_id, window_start_ms) do update set leased_nano_usd = leases.leased_nano_usd + excluded.leased_nano_usd`,
        [ownerId],
      ),
    ],

    // Paid from the lease; what that does not cover from what was written off when the owner was given up too early; what is
    // left was spent without a lease.
    settle: (ownerId, costs) => [
      ...forEach(
        costs,
        "b, t, c",
        ({ budgetId, startMs, cost }) => [budgetId, startMs, cost],
        1,
        `update budget_windows as w set
            spent_nano_usd = w.spent_nano_usd + s.c - s.redeemed,
            leased_nano_usd = w.leased_nano_usd - s.covered,
            written_off_nano_usd = w.written_off_nano_usd - s.redeemed,
            unleased_nano_usd = w.unleased_nano_usd + s.c - s.covered - s.redeemed
          from (select q.b, q.t, q.c, q.covered, ${least}(q.c - q.covered, q.lost) as redeemed
              from (select d.b, d.t, d.c, ${least}(d.c, coalesce(l.leased_nano_usd, 0)) as covered, coalesce(l.written_off_nano_usd, 0) as lost
                from d left join leases l on l.owner_id = ? and l.budget_id = d.b and l.window_start_ms = d.t) q) s
          where w.budget_id = s.b and w.window_start_ms = s.t
          returning ${ROW}`,
        [ownerId],
      ),
      ...forEach(
        costs,
        "b, t, c",
        ({ budgetId, startMs, cost }) => [budgetId, startMs, cost],
        1,
        `update leases as l set
            leased_nano_usd = l.leased_nano_usd - ${least}(d.c, l.leased_nano_usd),
            written_off_nano_usd = l.written_off_nano_usd - ${least}(d.c - ${least}(d.c, l.leased_nano_usd), l.written_off_nano_usd)
          from d where l.owner_id = ? and l.budget_id = d.b and l.window_start_ms = d.t`,
        [ownerId],
      ),
    ],

    // To what is kept and not by how much: so an owner that does not know whether its last lease was granted gets even here.
    release: (ownerId, keeps) => [
      ...forEach(
        keeps,
        "b, t, k",
        ({ budgetId, startMs, keep }) => [budgetId, startMs, keep],
        1,
        `update budget_windows as w set
            spent_nano_usd = w.spent_nano_usd - s.redeemed,
            leased_nano_usd = w.leased_nano_usd - s.back,
            written_off_nano_usd = w.written_off_nano_usd - s.redeemed
          from (select q.b, q.t, q.back, ${least}(q.lost, q.excess - q.back) as redeemed
              from (select r.b, r.t, r.lost, r.excess, ${least}(r.held, r.excess) as back
                from (select d.b, d.t, l.leased_nano_usd as held, l.written_off_nano_usd as lost,
                    ${greatest}(0, l.leased_nano_usd + l.written_off_nano_usd - d.k) as excess
                  from d join leases l on l.owner_id = ? and l.budget_id = d.b and l.window_start_ms = d.t) r) q) s
          where w.budget_id = s.b and w.window_start_ms = s.t
          returning ${ROW}`,
        [ownerId],
      ),
      ...forEach(
        keeps,
        "b, t, k",
        ({ budgetId, startMs, keep }) => [budgetId, startMs, keep],
        1,
        `update leases as l set
            leased_nano_usd = ${least}(l.leased_nano_usd, ${greatest}(0, d.k - l.written_off_nano_usd)),
            written_off_nano_usd = ${least}(l.written_off_nano_usd, d.k)
          from d where l.owner_id = ? and l.budget_id = d.b and l.window_start_ms = d.t`,
        [ownerId],
      ),
      { sql: FORGET_EMPTY_LEASES, params: [ownerId] },
    ],

    beat: (ownerId) => ({
      sql: `insert into lease_owners (owner_id, started_at_ms, heartbeat_at_ms) values (?, ${nowMs}, ${nowMs})
        on conflict (owner_id) do update set heartbeat_at_ms = excluded.heartbeat_at_ms`,
      params: [ownerId],
    }),

    // Nothing is not a turn: the column's constraint refuses it.
    takeTurn: (ownerId, turn) => ({
      sql: `insert into lease_owners (owner_id, started_at_ms, heartbeat_at_ms, turn) values (?, ${nowMs}, ${nowMs}, cast(? as bigint))
        on conflict (owner_id) do update set heartbeat_at_ms = excluded.heartbeat_at_ms,
          turn = case when lease_owners.turn < excluded.turn then excluded.turn end`,
      params: [ownerId, turn],
    }),

    silentOwners: (ownerId, silentMs) => ({
      sql: `select owner_id from lease_owners where owner_id <> ? and heartbeat_at_ms <= ${nowMs} - cast(? as bigint)`,
      params: [ownerId, silentMs],
    }),

    // The owner's own transactions begin with its row, so once that is deleted here it cannot interfere; and if it was heard
    // of in the meantime, its row is still there and nothing happens. If another had deleted it before, the owner may be back
    // and lease while this runs: then no statement finds a lease both gone and not empty. Without `> 0` the last one would find
    // the empty lease, wait for the owner's transaction and take what that put there.
    writeOff: (ownerId, silentMs) => [
      {
        sql: `delete from lease_owners where owner_id = ? and heartbeat_at_ms <= ${nowMs} - cast(? as bigint)`,
        params: [ownerId, silentMs],
      },
      ...(postgres
        ? [
            {
              sql: `select 1 as locked from budget_windows w join leases l on l.budget_id = w.budget_id and l.window_start_ms = w.window_start_ms
                where l.owner_id = ? and l.leased_nano_usd > 0 order by w.budget_id collate "C", w.window_start_ms for update of w`,
              params: [ownerId],
            },
          ]
        : []),
      {
        sql: `select budget_id, window_start_ms, leased_nano_usd as written_off_nano_usd from leases where owner_id = ? and leased_nano_usd > 0 and ${GONE}`,
        params: [ownerId, ownerId],
      },
      {
        sql: `update budget_windows as w set
            spent_nano_usd = w.spent_nano_usd + l.leased_nano_usd,
            leased_nano_usd = w.leased_nano_usd - l.leased_nano_usd,
            written_off_nano_usd = w.written_off_nano_usd + l.leased_nano_usd
          from leases l where l.owner_id = ? and l.leased_nano_usd > 0 and l.budget_id = w.budget_id and l.window_start_ms = w.window_start_ms and ${GONE}`,
        params: [ownerId, ownerId],
      },
      {
        sql: `update leases set written_off_nano_usd = written_off_nano_usd + leased_nano_usd, leased_nano_usd = 0 where owner_id = ? and leased_nano_usd > 0 and ${GONE}`,
        params: [ownerId, ownerId],
      },
      { sql: FORGET_EMPTY_LEASES, params: [ownerId] },
    ],

    forget: (ownerId) => ({
      sql: `delete from lease_owners where owner_id = ? and not exists (select 1 from leases where owner_id = lease_owners.owner_id and leased_nano_usd > 0)`,
      params: [ownerId],
    }),
  };
}

const ROW = "budget_id, window_start_ms, spent_nano_usd, leased_nano_usd";
const GONE = "not exists (select 1 from lease_owners o where o.owner_id = ?)";
const FORGET_EMPTY_LEASES =
  "delete from leases where owner_id = ? and leased_nano_usd = 0 and written_off_nano_usd = 0";

/** The order of PostgreSQL's "C" collation, which is that of the code units: ids are ASCII. */
function inLockOrder(a: WindowKey, b: WindowKey): number {
  if (a.budgetId !== b.budgetId) return a.budgetId < b.budgetId ? -1 : 1;
  return a.startMs - b.startMs;
}
