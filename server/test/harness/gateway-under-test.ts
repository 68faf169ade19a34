import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DestinationStream } from "pino";
import { type Simulator, type SimulatorOptions, startSimulator } from "@brikk/simulator";
import { createKeyStore, type NewKey } from "../../src/access/key-store.ts";
import { buildApp } from "../../src/app.ts";
import { loadConfig, type PolicyConfig } from "../../src/config.ts";
import { secretsIn } from "../../src/config/secrets-in.ts";
import { buildGateway, type Gateway } from "../../src/gateway.ts";
import { type WireLimits, WIRE_LIMITS } from "../../src/http/wire-limits.ts";
import { type Clock, systemClock } from "../../src/lib/clock.ts";
import type { DialectName, Row } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createRedactor } from "../../src/telemetry/redactor.ts";
import { createPostgresDatabase } from "./postgres-databases.ts";

/** A gateway with everything real: a database, an HTTP port, and the simulator (or a server of the test's own) as provider. */
export interface GatewayUnderTest {
  /** http://127.0.0.1:PORT */
  readonly url: string;
  readonly simulator: Simulator;
  readonly gateway: Gateway;
  /** Makes a key; the secret is what a caller sends. */
  createKey(key?: Partial<NewKey>): Promise<{ id: string; secret: string }>;
  /** The ledger's rows, oldest first. */
  events(): Promise<Row[]>;
  all(sql: string): Promise<Row[]>;
  close(): Promise<void>;
}

export interface HarnessOptions {
  /** A new one of the kind; without it, a SQLite file. */
  readonly database?: DialectName;
  /** Settings on top of: a free port, the simulator as both vendors, quiet logs, generous limits. */
  readonly environment?: Readonly<Record<string, string>>;
  /** The operator's policies, as the config file would give them. */
  readonly policies?: readonly PolicyConfig[];
  readonly simulator?: SimulatorOptions;
  /** Serves in the simulator's place, per vendor: a base URL of the test's own server. */
  readonly providers?: Readonly<Record<string, string>>;
  /** Beside other providers as well, unless said otherwise. */
  readonly simulatorServes?: "alone" | "always";
  readonly clock?: Clock;
  /** In the place of the server's own. */
  readonly limits?: Partial<WireLimits>;
  /** Takes the log's lines, from `info` on. */
  readonly log?: DestinationStream;
}

export async function startGateway(options: HarnessOptions = {}): Promise<GatewayUnderTest> {
  const folder = mkdtempSync(join(tmpdir(), "brikk-test-"));
  const postgres = options.database === "postgres" ? await createPostgresDatabase() : undefined;
  const settings = loadConfig({
    PORT: "0",
    DATABASE_URL: postgres?.url ?? `sqlite:${join(folder, "brikk.db")}`,
    LOG_LEVEL: "silent",
    BRIKK_RATE_LIMIT_PER_MIN: "100000",
    BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "100000",
    BRIKK_MAX_CONNECTIONS_PER_ADDRESS: "100000",
    BRIKK_DEFAULT_SOFT_CAP_USD: "1000",
    BRIKK_DEFAULT_HARD_CAP_USD: "1000",
    ...options.environment,
  });
  const config = { ...settings, policies: options.policies ?? settings.policies };
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0, ...options.simulator });
  const database = await openDatabase({ url: config.databaseUrl });
  const clock = options.clock ?? systemClock;
  const redactor = createRedactor(secretsIn(config));
  const gateway = await buildGateway({
    config,
    version: "0.0.0-test",
    logger: createLogger({
      level: options.log ? "info" : config.logLevel,
      pretty: false,
      redactor,
      ...(options.log && { destination: options.log }),
    }),
    database,
    redactor,
    simulated: { openai: simulator.openaiBaseUrl, mistral: simulator.mistralBaseUrl, ...options.providers },
    simulatorServes: options.simulatorServes ?? "always",
    fireDrill: simulator.faults,
    clock,
  });
  const app = await buildApp(gateway, { ...WIRE_LIMITS, ...options.limits });
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const keyStore = createKeyStore({ database, clock });
  const all = (sql: string): Promise<Row[]> => database.all({ sql, params: [] });
  return {
    url,
    simulator,
    gateway,
    createKey: async (key = {}) => {
      const created = await keyStore.create({ name: "test", ...key });
      return { id: created.key.id, secret: created.secret };
    },
    events: () => all("select * from usage_events order by event_id"),
    all,
    close: async () => {
      await gateway.inFlight.drain(1_000);
      await app.close();
      await gateway.close();
      await database.close();
      await simulator.close();
      postgres?.drop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
