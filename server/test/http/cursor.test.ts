import assert from "node:assert/strict";
import { test } from "node:test";
import { BrikkError } from "../../src/errors.ts";
import { cursorOver } from "../../src/http/cursor.ts";

interface Place {
  readonly atMs: number;
  readonly name: string;
}

const cursor = cursorOver<Place>(
  /^(\d{1,15})\.(.+)$/su,
  ({ atMs, name }) => [atMs, name],
  (atMs, name) => ({ atMs: Number(atMs), name }),
);
const encoded = (text: string, encoding: BufferEncoding = "utf8"): string =>
  Buffer.from(text, encoding).toString("base64url");

test("a cursor leads back to its place, whatever the text in it", () => {
  for (const name of ["bk_Ab12Cd34Ef56", "a.b", "日本 🎎", "\n"]) {
    const place = { atMs: 1_795_637_851_234, name };
    assert.deepEqual(cursor.read(cursor.write(place)!), place);
  }
});

test("without a place there is no cursor, and without a cursor the list begins", () => {
  assert.equal(cursor.write(undefined), null);
  assert.equal(cursor.read(undefined), undefined);
});

test("what the list never gave is refused: other forms, and other spellings of its own", () => {
  const own = cursor.write({ atMs: 17, name: "x" })!;
  const foreign = [
    "",
    "x",
    encoded("17"),
    encoded("17."),
    encoded(".x"),
    encoded("-1.x"),
    encoded("1234567890123456.x"),
  ];
  const spelt = [`${own}=`, `${own} `, own.slice(0, -1), encoded("017.x"), encoded("17.\xff", "latin1")];
  for (const text of [...foreign, ...spelt])
    assert.throws(
      () => cursor.read(text),
      (error) => error instanceof BrikkError && error.code === "invalid_request" && error.extras.param === "cursor",
      text,
    );
});
