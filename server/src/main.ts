import { readFileSync } from "node:fs";
import { startSimulator, type Simulator } from "@brikk/simulator";
import { buildApp } from "./app.ts";
import { bannerOf } from "./banner.ts";
import { type Config, ConfigError, loadConfigFromProcess, configPathFromProcess } from "./config.ts";
import { anyCredentialStored } from "./credentials/any-credential-stored.ts";
import { buildGateway, type Gateway } from "./gateway.ts";
import type { App } from "./http/app-type.ts";
import { listen } from "./http/listen.ts";
import { isPostgresUrl } from "./lib/postgres-address.ts";
import { riskySettings } from "./config/risky-settings.ts";
import { secretsIn } from "./config/secrets-in.ts";
import { needsSimulator, type SimulatedAddresses } from "./providers/provider-set.ts";
import type { Database } from "./storage/database.ts";
import { StorageOpenError, StorageUnavailable } from "./storage/database.ts";
import { databasePathOf } from "./storage/database-path.ts";
import { databasePlaceOf } from "./storage/database-place.ts";
import { loosePermissions } from "./storage/loose-permissions.ts";
import { AlreadyRunning, type InstanceLock, lockInstance } from "./storage/instance-lock.ts";
import { openDatabase } from "./storage/open-database.ts";
import { createLogger, type Logger, openProcessLog } from "./telemetry/log.ts";
import { collectProcessMetrics } from "./telemetry/process-metrics.ts";
import { createRedactor } from "./telemetry/redactor.ts";

/** The process: config, storage, build, listen, drain on a signal. */
const version = (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string })
  .version;

/** Of the whole process: what it prints in its last moment goes through here, too. */
const redactor = createRedactor();

interface Running {
  readonly config: Config;
  readonly gateway: Gateway;
  readonly app: App;
  readonly address: string;
  readonly simulator: Simulator | undefined;
  readonly database: Database;
  /** Only a SQLite file has one server; a PostgreSQL database may have many. */
  readonly lock: InstanceLock | undefined;
  /** What works and should not be as it is; said at every start. */
  readonly warnings: readonly string[];
}

async function start(): Promise<Running> {
  const config = loadConfigFromProcess();
  redactor.learn(secretsIn(config));
  const lock = isPostgresUrl(config.databaseUrl) ? undefined : lockInstance(databasePathOf(config.databaseUrl));
  const database = await openDatabase({ url: config.databaseUrl });
  const logger = createLogger({
    level: config.logLevel,
    redactor,
    ...(process.stdout.isTTY ? { pretty: true } : { pretty: false, destination: openProcessLog() }),
  });
  const simulator =
    needsSimulator(config) && !(await anyCredentialStored(database, config.providers))
      ? await startSimulator(config.simulator)
      : undefined;
  const gateway = await buildGateway({
    config,
    version,
    logger,
    database,
    redactor,
    simulated: simulator && addressesOf(simulator),
    fireDrill: simulator?.faults,
  });
  collectProcessMetrics(gateway.metrics.registry);
  const app = await buildApp(gateway);
  const address = await listen(app, config);
  const warnings = [...warnOfRisks(config, logger), ...warnOfPermissions(config, logger)];
  return { config, gateway, app, address, simulator, database, lock, warnings };
}

function warnOfRisks(config: Config, logger: Logger): readonly string[] {
  const risks = riskySettings(config);
  for (const { setting, sentence } of risks) logger.warn({ setting }, sentence);
  return risks.map(({ sentence }) => sentence);
}

function warnOfPermissions(config: Config, logger: Logger): readonly string[] {
  const found = loosePermissions(config.databaseUrl);
  for (const { path, sentence, remedy } of found) logger.warn({ path, remedy }, sentence);
  return found.map(({ sentence }) => sentence);
}

const addressesOf = (simulator: Simulator): SimulatedAddresses => ({
  openai: simulator.openaiBaseUrl,
  mistral: simulator.mistralBaseUrl,
});

const SILENT_CONNECTIONS_MS = 2_000;
const TELL_AGAIN_MS = 5_000;

/** No new request; streams in hand finish within the bound; the ledger is committed; then the rest. */
async function stop({ config, gateway, app, simulator, database, lock }: Running): Promise<void> {
  process.stdout.write(
    `Stopping: ${gateway.inFlight.count} in hand, ${config.drainTimeoutMs / 1_000} s at most. A second signal stops at once.\n`,
  );
  const waiting = setInterval(() => {
    if (!gateway.ledger.writable)
      process.stdout.write(
        "The database does not take the last usage events; they are tried again. A second signal stops at once and loses them.\n",
      );
  }, TELL_AGAIN_MS);
  const drained = gateway.inFlight.drain(config.drainTimeoutMs);
  await drained;
  // What has not said a word since it connected is not idle to every Node, and would be waited for.
  const cut = setTimeout(() => app.server.closeAllConnections(), SILENT_CONNECTIONS_MS);
  await app.close();
  clearTimeout(cut);
  await gateway.close();
  clearInterval(waiting);
  await database.close();
  await simulator?.close();
  lock?.release();
}

/** One clear sentence for what an operator can mend; anything else is a fault of ours and keeps its stack. */
function explainStart(error: unknown): string {
  if (error instanceof ConfigError || error instanceof StorageOpenError || error instanceof AlreadyRunning)
    return error.message;
  if (error instanceof StorageUnavailable)
    return `Brikk cannot start: the database does not answer (${error.message}).`;
  const { code, address, port } = error as { code?: string; address?: string; port?: number };
  if (code === "EADDRINUSE")
    return `Brikk cannot start: port ${port} on ${address} is taken by another program. Stop it, or set PORT to a free one.`;
  if (code === "EACCES")
    return `Brikk cannot start: this user may not listen on port ${port}. Set PORT to one above 1023.`;
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return `Brikk cannot start: HOST is no address of this machine.`;
  return redactor.text(
    `Brikk cannot start, and did not expect why: ${error instanceof Error ? error.stack : String(error)}`,
  );
}

/** Everything that the config file says is taken anew or nothing is; the environment stays as it was at the start. */
function reloadConfigFile({ gateway }: Running): void {
  const path = configPathFromProcess();
  if (path === undefined) return;
  try {
    const config = loadConfigFromProcess();
    redactor.learn(secretsIn(config));
    gateway.replaceConfigFile(config);
    gateway.logger.info({ path, providers: gateway.providers.known }, "the config file was read again");
    warnOfRisks(config, gateway.logger);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    gateway.logger.error({ path, faults: error.faults }, "the config file is faulty; the one before stays in force");
  }
}

try {
  const running = await start();
  let stopping = false;
  const onSignal = (): void => {
    if (stopping) process.exit(1);
    stopping = true;
    stop(running).then(
      () => process.exit(0),
      (error: unknown) => {
        running.gateway.logger.error({ error }, "stopping failed");
        process.exit(1);
      },
    );
  };
  // Node's own farewell shows an error with all that hangs on it, secrets included.
  process.on("uncaughtException", (error) => {
    running.gateway.logger.fatal({ error }, "a fault that nobody caught ends the process");
    process.stderr.write(redactor.text(`Brikk ends by a fault of its own: ${error.stack ?? error.message}\n`));
    process.exit(1);
  });
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  process.on("SIGHUP", () => reloadConfigFile(running));
  // Last: whoever reads it may send a signal at once.
  const { address, gateway, config, warnings } = running;
  process.stdout.write(
    `${bannerOf({ version, address, gateway, databasePlace: databasePlaceOf(config.databaseUrl), warnings })}\n`,
  );
} catch (error) {
  process.stderr.write(`${explainStart(error)}\n`);
  process.exit(1);
}
