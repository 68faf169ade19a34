/** The command line was misused: shown as one sentence, exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The command was understood but could not be carried out: shown as one sentence, exit code 1. */
export class CommandFailed extends Error {
  override readonly name = "CommandFailed";
}
