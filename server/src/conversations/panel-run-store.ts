import { BrikkError } from "../errors.ts";
import { type Clock, DAY_MS } from "../lib/clock.ts";
import { nanoUsd } from "../lib/money.ts";
import type { Database, Row } from "../storage/database.ts";
import type { Conversation, ConversationEnd, Turn } from "./conversation.ts";

/**
 * Runs of the panel in the database, so that a finished one outlives its server. A run belongs to its key: whoever asks with
 * another one finds nothing. What is kept is bounded, for each key, in all and in age; the oldest go first, when a new one comes.
 *
 * A run under way has one instance that holds it. It writes the run down after every turn, and gives a sign of life in between;
 * one without is told as interrupted. Other instances read it from here, say that it is read, and ask for its stop.
 *
 * Methods throw StorageUnavailable.
 */
export interface PanelRunStore {
  /** Makes room, then keeps the run. */
  insert(keyId: string, run: Conversation): Promise<void>;
  /** As it is now; a run with an end is finished. Does nothing for one that was removed. */
  update(run: Conversation): Promise<void>;
  find(keyId: string, runId: string): Promise<Conversation | undefined>;
  /** Newest first. */
  list(keyId: string, page: { readonly after: RunPosition | undefined; readonly limit: number }): Promise<RunPage>;
  remove(keyId: string, runId: string): Promise<boolean>;
  /** Asks whoever holds the run to stop it. */
  wantStop(keyId: string, runId: string): Promise<void>;
  noteRead(runId: string): Promise<void>;
  /** Gives a sign of life of runs held here, and gets what others said of them; a run that is missing was removed. */
  beat(runIds: readonly string[]): Promise<readonly RunNews[]>;
  /** Nobody holds a run any more, as after the start of a server that is its database's only one. */
  disown(): Promise<void>;
}

export interface RunPosition {
  readonly startedAtMs: number;
  readonly runId: string;
}

export interface RunPage {
  readonly runs: readonly Conversation[];
  readonly next: RunPosition | undefined;
}

export interface RunNews {
  readonly runId: string;
  readonly stopWanted: boolean;
  readonly readAtMs: number;
}

export const RUNS_PER_KEY = 50;
export const RUNS_IN_ALL = 2_000;
export const RUN_DAYS = 30;
/** An instance that has given no sign of life for so long is taken for dead. */
const SILENT_MS = 30_000;
/** More than may ever be over a bound at once; what is left goes the next time. */
const PRUNED_AT_ONCE = 1_000;

const COLUMNS = "run_id, created_at_ms, finished_at_ms, heartbeat_at_ms, document";

export function createPanelRunStore({ database, clock }: { database: Database; clock: Clock }): PanelRunStore {
  const oldestMs = (): number => clock.now() - RUN_DAYS * DAY_MS;

  const silentSinceMs = (): number => clock.now() - SILENT_MS;

  const runFrom = (row: Row): Conversation => {
    const run = parseRun(row["document"] as string);
    if (run.end || Number(row["heartbeat_at_ms"]) > silentSinceMs()) return run;
    return { ...run, end: interruptedEnd(run) };
  };

  return {
    async insert(keyId, run) {
      const now = clock.now();
      await database.transact([
        { sql: "delete from panel_runs where created_at_ms < ?", params: [oldestMs()] },
        prune(`where key_id = ? and ${IS_OVER}`, [keyId, silentSinceMs()], RUNS_PER_KEY - 1),
        prune(`where ${IS_OVER}`, [silentSinceMs()], RUNS_IN_ALL - 1),
        {
          sql: "insert into panel_runs (run_id, key_id, created_at_ms, finished_at_ms, heartbeat_at_ms, read_at_ms, stop_wanted, document) values (?, ?, ?, null, ?, ?, 0, ?)",
          params: [run.id, keyId, run.startedAtMs, now, 0, serializeRun(run)],
        },
      ]);
    },
    async update(run) {
      await database.transact([
        {
          sql: "update panel_runs set document = ?, finished_at_ms = ?, heartbeat_at_ms = ? where run_id = ?",
          params: [serializeRun(run), run.end ? (run.end.atMs ?? clock.now()) : null, clock.now(), run.id],
        },
      ]);
    },
    async find(keyId, runId) {
      const [row] = await database.all({
        sql: `select ${COLUMNS} from panel_runs where run_id = ? and key_id = ? and created_at_ms >= ?`,
        params: [runId, keyId, oldestMs()],
      });
      return row && runFrom(row);
    },
    async list(keyId, { after, limit }) {
      const rows = await database.all({
        sql: `select ${COLUMNS} from panel_runs where key_id = ? and created_at_ms >= ?${after ? " and (created_at_ms, run_id) < (?, ?)" : ""} order by created_at_ms desc, run_id desc limit ?`,
        params: [keyId, oldestMs(), ...(after ? [after.startedAtMs, after.runId] : []), limit + 1],
      });
      const runs = rows.slice(0, limit).map(runFrom);
      const last = runs.at(-1);
      return {
        runs,
        next: rows.length > limit && last ? { startedAtMs: last.startedAtMs, runId: last.id } : undefined,
      };
    },
    async remove(keyId, runId) {
      const [rows] = await database.transact([
        { sql: "delete from panel_runs where run_id = ? and key_id = ? returning run_id", params: [runId, keyId] },
      ]);
      return rows!.length > 0;
    },
    async wantStop(keyId, runId) {
      await database.transact([
        { sql: "update panel_runs set stop_wanted = 1 where run_id = ? and key_id = ?", params: [runId, keyId] },
      ]);
    },
    async noteRead(runId) {
      await database.transact([
        { sql: "update panel_runs set read_at_ms = ? where run_id = ?", params: [clock.now(), runId] },
      ]);
    },
    async beat(runIds) {
      const [rows] = await database.transact([
        {
          sql: `update panel_runs set heartbeat_at_ms = ? where run_id in (${runIds.map(() => "?").join(", ")}) returning run_id, stop_wanted, read_at_ms`,
          params: [clock.now(), ...runIds],
        },
      ]);
      return rows!.map((row) => ({
        runId: row["run_id"] as string,
        stopWanted: row["stop_wanted"] === 1n,
        readAtMs: Number(row["read_at_ms"]),
      }));
    },
    async disown() {
      await database.transact([
        { sql: "update panel_runs set heartbeat_at_ms = 0 where finished_at_ms is null", params: [] },
      ]);
    },
  };
}

const interruptedEnd = ({ requestId }: Conversation): ConversationEnd => ({
  ended: "interrupted",
  atMs: undefined,
  error: new BrikkError(
    "internal_error",
    "The server that held this run ended before the run did. What was said until then is kept.",
  ).body(requestId).error,
});

const IS_OVER = "(finished_at_ms is not null or heartbeat_at_ms <= ?)";

const prune = (condition: string, params: readonly (string | number)[], kept: number) => ({
  sql: `delete from panel_runs where run_id in (select run_id from panel_runs ${condition} order by created_at_ms desc, run_id desc limit ${PRUNED_AT_ONCE} offset ${kept})`,
  params,
});

/** JSON has no bigint: costs are written as text. */
const serializeRun = (run: Conversation): string =>
  JSON.stringify(run, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));

function parseRun(document: string): Conversation {
  const run = JSON.parse(document) as Conversation & { readonly turns: readonly StoredTurn[] };
  return {
    ...run,
    // What is undefined is not written down.
    end: run.end,
    turns: run.turns.map((turn) => ({
      ...turn,
      result: turn.result && { ...turn.result, cost: nanoUsd(BigInt(turn.result.cost)) },
    })),
  };
}

type StoredTurn = Turn & { readonly result?: { readonly cost: string } };
