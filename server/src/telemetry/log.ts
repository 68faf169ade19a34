import { pino, type Logger } from "pino";
import type { LogLevel } from "../config.ts";

export type { Logger };

/** JSON lines on stdout; coloured and short on a terminal. Never content, never a secret: callers pass only what may be read. */
export function createLogger(options: { level: LogLevel; pretty: boolean }): Logger {
  return pino({
    level: options.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { error: describeError },
    ...(options.pretty && { transport: { target: "pino-pretty", options: { colorize: true, translateTime: "HH:MM:ss.l", ignore: "pid,hostname", singleLine: true } } }),
  });
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
  if (!(thrown instanceof Error)) return { name: "NotAnError", message: redact(String(thrown)) };
  const code = "code" in thrown ? { code: thrown.code } : {};
  const expected = thrown.name === "BrikkError" || thrown.name === "ProviderError";
  return {
    name: thrown.name,
    message: redact(thrown.message),
    ...code,
    ...(!expected && { stack: thrown.stack === undefined ? undefined : redact(thrown.stack) }),
    ...(thrown.cause !== undefined && depth < MAX_CAUSES && { cause: describeError(thrown.cause, depth + 1) }),
  };
}

const SECRETS = /\b(brikk_|sk-)[A-Za-z0-9_-]{6,}|Bearer\s+\S+/g;

/** The last line of defence for texts that come from elsewhere. */
export const redact = (text: string): string => text.replace(SECRETS, "[redacted]");
