import { type DestinationStream, pino, type Logger } from "pino";
import type { LogLevel } from "../config.ts";
import { createRedactor, type Redactor } from "./redactor.ts";

export type { Logger };

/**
 * JSON lines; coloured and short on a terminal. Never content, never a secret: callers pass only what may be read, and what
 * slips in all the same, as in the message of an error from elsewhere, is taken out of the whole line by the redactor. It knows
 * secrets by their form at least, and those of the settings when it was told of them.
 */
export function createLogger(options: {
  readonly level: LogLevel;
  readonly pretty: boolean;
  readonly destination?: DestinationStream;
  readonly redactor?: Redactor;
}): Logger {
  const { redactor = createRedactor() } = options;
  const settings = {
    level: options.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: (thrown: unknown) => describeError(thrown) },
    hooks: { streamWrite: (line: string) => harmless(redactor.json(line)) },
  };
  if (options.pretty) {
    // A transport writes the level's name itself, and refuses a formatter that does.
    const { formatters: _, ...plain } = settings;
    return pino({
      ...plain,
      transport: {
        target: "pino-pretty",
        options: { colorize: true, translateTime: "HH:MM:ss.l", ignore: "pid,hostname", singleLine: true },
      },
    });
  }
  return options.destination ? pino(settings, options.destination) : pino(settings);
}

/** What JSON lets stand and a terminal may obey: C1 controls, line separators, and marks that turn text around. */
const UNSAFE = /[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

const harmless = (line: string): string =>
  line.replace(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

const LOG_BUFFER_BYTES = 4_096;
const LOG_FLUSH_MS = 200;

/**
 * The process's own log: stdout, written in blocks, since a write for each line costs a request more than its parsing. Lines
 * wait 200 ms at most; what waits is written when the process ends in any way but a kill.
 */
export function openProcessLog(): DestinationStream {
  const stdout = pino.destination({ dest: 1, sync: false, minLength: LOG_BUFFER_BYTES });
  // Whoever read the log is gone; the gateway goes on without a log rather than stop.
  stdout.on("error", () => {});
  setInterval(() => stdout.flush(), LOG_FLUSH_MS).unref();
  process.on("exit", () => stdout.flushSync());
  return stdout;
}

interface LoggedError {
  readonly name: string;
  readonly message: string;
  readonly code?: unknown;
  readonly stack?: string | undefined;
  readonly cause?: LoggedError;
}

const MAX_CAUSES = 5;

/** Name, message and causes. A stack only for what nobody expected: the coded errors say by themselves where they are from. */
function describeError(thrown: unknown, depth = 0): LoggedError {
  // As what a worker thread says of its own errors.
  if (!(thrown instanceof Error)) return { name: "NotAnError", message: messageIn(thrown) };
  const code = "code" in thrown ? { code: thrown.code } : {};
  const expected = thrown.name === "BrikkError" || thrown.name === "ProviderError";
  return {
    name: thrown.name,
    message: thrown.message,
    ...code,
    ...(!expected && { stack: thrown.stack }),
    ...(thrown.cause !== undefined && depth < MAX_CAUSES && { cause: describeError(thrown.cause, depth + 1) }),
  };
}

const messageIn = (thrown: unknown): string =>
  typeof thrown === "object" && thrown !== null && "message" in thrown ? String(thrown.message) : String(thrown);
