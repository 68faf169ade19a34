import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { readSecret } from "../../src/cli/read-secret.ts";
import { CommandFailed, UsageError } from "../../src/cli/usage-error.ts";

/** A terminal as node shows one: what is typed comes in pieces, and raw mode is what keeps it from being shown. */
function terminal(...typed: string[]) {
  const modes: boolean[] = [];
  const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: (mode: boolean) => void modes.push(mode) });
  const stderr = new PassThrough({ encoding: "utf8" });
  for (const piece of typed) stdin.write(piece);
  return { stdin, stderr, modes, shown: () => String(stderr.read() ?? "") };
}

test("on a terminal a secret is asked for, corrected and ended by Enter without being shown, and the terminal is as before", async () => {
  const { stdin, stderr, modes, shown } = terminal("sk-tyq", "\u007f", "ped\b\bed", "\r", "not read");
  assert.equal(await readSecret(stdin, stderr, "Key: "), "sk-typed");
  assert.equal(shown(), "Key: \n");
  assert.deepEqual(modes, [true, false]);
});

test("Control-C breaks off, and the terminal is as before", async () => {
  const { stdin, stderr, modes, shown } = terminal("sk-half\u0003");
  await assert.rejects(readSecret(stdin, stderr, "Key: "), CommandFailed);
  assert.doesNotMatch(shown(), /half/);
  assert.deepEqual(modes, [true, false]);
});

test("nothing but Enter is no secret", async () => {
  const { stdin, stderr } = terminal("\r");
  await assert.rejects(readSecret(stdin, stderr, "Key: "), UsageError);
});

test("what is piped in is the secret, without the line's end, and nobody is asked", async () => {
  const stderr = new PassThrough({ encoding: "utf8" });
  const stdin = new PassThrough();
  stdin.end("sk-piped\r\n");
  assert.equal(await readSecret(stdin, stderr, "Key: "), "sk-piped");
  assert.equal(stderr.read(), null);
});
