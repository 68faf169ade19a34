import { parseArgs } from "node:util";
import { startSimulator } from "./simulator.ts";
import type { Simulator, SimulatorOptions } from "./simulator.ts";

const DRAIN_MS = 10_000;

const USAGE = `Usage: npm run simulator -- [flags]
  --port N               port to listen on (4010)
  --host ADDRESS         address to listen on (127.0.0.1)
  --first-token-ms N     milliseconds to the first token (300)
  --tokens-per-second N  pace of the answers; 0 answers at once (60)
  --seed N               decides the answers and which requests a fault strikes (1)`;

const DEFAULT_PORT = 4010;

type Settings = Required<Pick<SimulatorOptions, "host" | "port">> & SimulatorOptions;

try {
  const settings = readFlags();
  if (settings === "help") console.log(USAGE);
  else await run(settings);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}

async function run(settings: Settings): Promise<void> {
  const simulator = await start(settings);
  console.log(`The simulator is ready and answers with any API key.
  OpenAI   ${simulator.openaiBaseUrl}
  Mistral  ${simulator.mistralBaseUrl}
Break it (one time in three, a rate limit from OpenAI):
  curl -X POST ${simulator.url}/control/faults -H 'content-type: application/json' -d '{"vendor":"openai","share":0.33,"fault":{"kind":"status","status":429,"retryAfter":1}}'
Mend it:
  curl -X DELETE ${simulator.url}/control/faults`);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void simulator.close(DRAIN_MS));
}

async function start(settings: Settings): Promise<Simulator> {
  try {
    return await startSimulator(settings);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EADDRINUSE")
      throw new Error(`Port ${settings.port} on ${settings.host} is taken; choose another with --port.`, {
        cause: error,
      });
    if (code === "EACCES")
      throw new Error(`Port ${settings.port} needs more rights than this user has; choose another with --port.`, {
        cause: error,
      });
    if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
      throw new Error(`This machine has no address ${settings.host} to listen on.`, { cause: error });
    throw error;
  }
}

function readFlags(): Settings | "help" {
  const flags = {
    port: { type: "string" },
    host: { type: "string" },
    "first-token-ms": { type: "string" },
    "tokens-per-second": { type: "string" },
    seed: { type: "string" },
    help: { type: "boolean", short: "h" },
  } as const;
  let values;
  try {
    values = parseArgs({ options: flags }).values;
  } catch (error) {
    const problem = error instanceof Error ? (error.message.split(". ")[0] ?? "") : String(error);
    throw new Error(`${problem}; --help lists the flags.`, { cause: error });
  }
  if (values.help === true) return "help";
  return {
    host: values.host ?? "127.0.0.1",
    port: wholeNumber("port", values.port, 65_535) ?? DEFAULT_PORT,
    ...given("firstTokenMs", wholeNumber("first-token-ms", values["first-token-ms"], 3_600_000)),
    ...given("tokensPerSecond", wholeNumber("tokens-per-second", values["tokens-per-second"], 1_000_000)),
    ...given("seed", wholeNumber("seed", values.seed, 4_294_967_295)),
  };
}

function wholeNumber(flag: string, text: string | undefined, most: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/u.test(text) && value <= most) return value;
  throw new Error(`--${flag} must be a whole number from 0 to ${most}, not "${text}".`);
}

function given<K extends string>(name: K, value: number | undefined): Partial<Record<K, number>> {
  return value === undefined ? {} : ({ [name]: value } as Record<K, number>);
}
