import type { Readable, Writable } from "node:stream";
import { CommandFailed, UsageError } from "./usage-error.ts";

/** Standard input: a terminal, or what was piped in. */
export interface SecretSource extends Readable {
  readonly isTTY?: boolean;
  setRawMode?(mode: boolean): unknown;
}

/** Longer than any key; who pipes in a film is told at its beginning. */
const MAX_LENGTH = 8_192;

/** One line, asked for without an echo on a terminal. Throws UsageError when there is nothing, CommandFailed when it was broken off. */
export async function readSecret(stdin: SecretSource, stderr: Writable, prompt: string): Promise<string> {
  const onTerminal = stdin.isTTY === true && stdin.setRawMode !== undefined;
  const text = onTerminal ? await typed(stdin, stderr, prompt) : await piped(stdin);
  const secret = text.trim();
  if (secret === "") throw new UsageError("Nothing came on standard input, where the secret is read from.");
  if (/[\r\n]/.test(secret))
    throw new UsageError("More than one line came on standard input; the secret is a single one.");
  return secret;
}

async function piped(stdin: SecretSource): Promise<string> {
  let text = "";
  stdin.setEncoding("utf8");
  for await (const chunk of stdin as AsyncIterable<string>) {
    text += chunk;
    if (text.length > MAX_LENGTH) throw new UsageError("What came on standard input is too long for a secret.");
  }
  return text;
}

const CONTROL_C = "\u0003";
const CONTROL_D = "\u0004";
const BACKSPACES = new Set(["\b", "\u007f"]);

/** In raw mode the terminal shows nothing, and does nothing about corrections either. */
async function typed(stdin: SecretSource, stderr: Writable, prompt: string): Promise<string> {
  stderr.write(prompt);
  stdin.setEncoding("utf8");
  stdin.setRawMode?.(true);
  let text = "";
  try {
    for await (const chunk of stdin.iterator({ destroyOnReturn: false }) as AsyncIterable<string>) {
      for (const character of chunk) {
        if (character === CONTROL_C) throw new CommandFailed("Broken off; nothing was changed.");
        if (character === "\r" || character === "\n" || character === CONTROL_D) return text;
        if (BACKSPACES.has(character)) text = text.slice(0, -1);
        else if (text.length < MAX_LENGTH) text += character;
      }
    }
    return text;
  } finally {
    stdin.setRawMode?.(false);
    stdin.pause();
    stderr.write("\n");
  }
}
