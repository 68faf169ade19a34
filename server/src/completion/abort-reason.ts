import { BrikkError } from "../errors.ts";

/** The server stopped before the answer was complete. */
export const isDraining = (error: unknown): boolean => error instanceof BrikkError && error.code === "draining";

/** A server that stops aborts too, but then the caller is still there and must be told. */
export const callerLeft = (signal: AbortSignal): boolean => signal.aborted && !isDraining(signal.reason);
