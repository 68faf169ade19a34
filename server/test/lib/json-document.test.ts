import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  editJsonDocument,
  JSON_LIMITS,
  type JsonEdit,
  JsonDocumentError,
  JsonTooComplex,
  parseJsonDocument,
} from "../../src/lib/json-document.ts";

const objectOf = (members: number): string =>
  `{${Array.from({ length: members }, (_, index) => `"m${index}":0`).join(",")}}`;
const parse = (text: string) => parseJsonDocument(Buffer.from(text));
const edited = (text: string, edits: Readonly<Record<string, JsonEdit>>): string =>
  editJsonDocument(parse(text), new Map(Object.entries(edits))).toString("utf8");

/** A JSON text with everything a writer is free to choose: white space, escapes, number forms. */
const space = fc.constantFrom("", " ", "\n\t", "  \r\n");
const forbidden = new Set(["__proto__", "constructor", "prototype"]);
const name = fc
  .oneof(
    fc.constantFrom("model", "stream", "n", "", 'a"b\\', "é日🎉", "a,b:{}", "tools"),
    fc.string({ unit: "grapheme", maxLength: 6 }),
  )
  .filter((text) => !forbidden.has(text));
const escaped = (text: string): string =>
  `"${Array.from({ length: text.length }, (_, index) => `\\u${text.charCodeAt(index).toString(16).padStart(4, "0")}`).join("")}"`;
const stringToken = fc
  .string({ unit: "grapheme", maxLength: 10 })
  .chain((text) => fc.constantFrom(JSON.stringify(text), escaped(text)));
const scalarToken = fc.oneof(
  stringToken,
  fc.constantFrom(
    "1",
    "-0",
    "1.50",
    "12345678901234567890",
    "1e5",
    "1E-7",
    "true",
    "false",
    "null",
    '"\\\\"',
    '"\\""',
    '"}],{"',
  ),
);
const valueToken: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    scalarToken,
    fc
      .tuple(fc.array(tie("value"), { maxLength: 3 }), space)
      .map(([items, gap]) => `[${gap}${items.join(`${gap},${gap}`)}${gap}]`),
    fc
      .tuple(fc.array(fc.tuple(name, tie("value")), { maxLength: 3 }), space)
      .map(
        ([members, gap]) =>
          `{${gap}${members.map(([key, value]) => `${JSON.stringify(key)}${gap}:${gap}${value}`).join(`,${gap}`)}}`,
      ),
  ),
})).value;

interface WrittenMember {
  readonly key: string;
  readonly token: string;
}
const members: fc.Arbitrary<WrittenMember[]> = fc
  .uniqueArray(fc.record({ key: name, token: fc.tuple(space, space, valueToken, space).map((parts) => parts) }), {
    selector: (member) => member.key,
    maxLength: 6,
  })
  .chain((list) =>
    fc
      .tuple(
        ...list.map(({ key, token: [before, after, value] }) =>
          fc
            .constantFrom(JSON.stringify(key), escaped(key))
            .map((written) => ({ key, token: `${written}${before}:${after}${value}` })),
        ),
      )
      .map((written) => written as WrittenMember[]),
  );
/** What an edit may set: anything that this server would take from a caller. */
const set = fc.jsonValue().filter((value) => !/__proto__|constructor/.test(JSON.stringify(value)));
const edit: fc.Arbitrary<JsonEdit> = fc.oneof(
  fc.constant<JsonEdit>("remove"),
  set.map((value): JsonEdit => ({ set: value })),
  fc.nat(1_000).map((number): JsonEdit => ({ renameTo: `renamed-${number}` })),
);

function applied(
  value: Readonly<Record<string, unknown>>,
  edits: ReadonlyMap<string, JsonEdit>,
): Record<string, unknown> {
  const result = new Map(Object.entries(value));
  for (const [key, change] of edits) {
    if (change === "remove") result.delete(key);
    else if ("set" in change) result.set(key, JSON.parse(JSON.stringify(change.set)));
    else if (result.has(key)) {
      result.set(change.renameTo, result.get(key));
      result.delete(key);
    }
  }
  return Object.fromEntries(result);
}

test("edited bytes mean the edited object, and members that were not edited keep their bytes", () => {
  fc.assert(
    fc.property(
      members,
      space,
      fc.array(fc.tuple(fc.nat(7), edit), { maxLength: 4 }),
      fc.dictionary(
        fc.constantFrom("new", "neu é"),
        set.map((value): JsonEdit => ({ set: value })),
      ),
      (written, gap, changes, additions) => {
        const text = `${gap}{${written.map(({ token }) => gap + token + gap).join(",")}}${gap}`;
        const document = parse(text);
        const edits = new Map<string, JsonEdit>(
          Object.entries(additions).filter(([key]) => !document.members.has(key)),
        );
        const renamed = new Set<string>();
        for (const [place, change] of changes) {
          const member = written[place];
          if (!member) continue;
          if (typeof change === "object" && "renameTo" in change) {
            if (renamed.has(change.renameTo) || document.members.has(change.renameTo)) continue;
            renamed.add(change.renameTo);
          }
          edits.set(member.key, change);
        }
        const bytes = editJsonDocument(document, edits);
        assert.deepEqual(
          JSON.parse(bytes.toString("utf8")),
          applied(JSON.parse(text) as Record<string, unknown>, edits),
        );
        for (const { key, token } of written) {
          const change = edits.get(key);
          if (change === undefined) assert.ok(bytes.includes(Buffer.from(token)), `${key} lost its bytes`);
        }
        // What was made is itself a document that this server takes.
        assert.deepEqual(parseJsonDocument(bytes).value, JSON.parse(bytes.toString("utf8")));
      },
    ),
    { numRuns: 500 },
  );
});

test("without edits the very same buffer goes on", () => {
  const bytes = Buffer.from(' { "model" : "m" } ');
  assert.equal(editJsonDocument(parseJsonDocument(bytes), new Map()), bytes);
});

test("figures that a double cannot hold, number forms and white space inside a member pass untouched", () => {
  assert.equal(
    edited('{"model":"x", "seed" : 12345678901234567890 ,"t":1.50e+0,"s":"\\u00e9"}', { model: { set: "y" } }),
    '{"model":"y","seed" : 12345678901234567890 ,"t":1.50e+0,"s":"\\u00e9"}',
  );
});

test("a renamed member keeps the bytes of its value", () => {
  assert.equal(
    edited('{"seed" : 12345678901234567890,"a":1}', { seed: { renameTo: "random_seed" } }),
    '{"random_seed" : 12345678901234567890,"a":1}',
  );
});

test("taking out the last member or all of them leaves an object", () => {
  assert.equal(edited('{"a":1,"b":2}', { b: "remove" }), '{"a":1}');
  assert.equal(edited('{"a":1,"b":2}', { a: "remove", b: "remove" }), "{}");
  assert.equal(edited('{"a":1}', { a: "remove", c: { set: 3 } }), '{"c":3}');
  assert.equal(edited("{}", { c: { set: 3 }, gone: "remove", other: { renameTo: "x" } }), '{"c":3}');
});

const refused: readonly [string, Buffer | string, RegExp][] = [
  ["an empty body", "", /empty/],
  ["a body that is not JSON", "{model:1}", /not valid JSON/],
  ["a body that ends too early", '{"a":', /not valid JSON/],
  ["an array", "[1]", /must be a JSON object/],
  ["null", "null", /must be a JSON object/],
  ["a text", '"x"', /must be a JSON object/],
  ["bytes that are not UTF-8", Buffer.from([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, 0xc3, 0x28, 0x22, 0x7d]), /UTF-8/],
  ["a member that stands twice", '{"model":"a","x":1,"model":"b"}', /"model" twice/],
  ["a member that stands twice, once escaped", '{"model":"a","mod\\u0065l":"b"}', /"model" twice/],
  ["an empty name that stands twice", '{"":1,"":2}', /twice/],
  ["__proto__", '{"__proto__":{"admin":true}}', /__proto__/],
  ["an escaped __proto__", '{"\\u005f_proto__":{"admin":true}}', /__proto__/],
  ["a nested __proto__", '{"a":[{"__proto__":1}]}', /__proto__/],
  ["constructor.prototype", '{"constructor":{"prototype":{"a":1}}}', /constructor\.prototype/],
  ["129 levels of arrays", `{"a":${"[".repeat(128)}${"]".repeat(128)}}`, /deeper than 128/],
  ["a million opening brackets", "[".repeat(1_000_000), /deeper than 128/],
];
for (const [what, body, reason] of refused) {
  test(`refused with the reason: ${what}`, () => {
    assert.throws(
      () => parseJsonDocument(Buffer.from(body)),
      (error) => error instanceof JsonDocumentError && reason.test(error.message),
    );
  });
}

for (const [rule, most, more] of [
  ["json_depth", `{"a":${"[".repeat(127)}${"]".repeat(127)}}`, `{"a":${"[".repeat(128)}${"]".repeat(128)}}`],
  ["json_values", `{"a":[${"0,".repeat(399_998)}0]}`, `{"a":[${"0,".repeat(399_999)}0]}`],
  ["json_members", objectOf(10_000), objectOf(10_001)],
  ["json_name_length", `{"${"a".repeat(1_024)}":1}`, `{"${"a".repeat(1_025)}" :1}`],
  ["json_number_length", `{"a":${"1".repeat(256)}}`, `{"a":-${"1".repeat(256)}}`],
] as const) {
  test(`${rule}: the most is taken, and one more is refused by this rule`, () => {
    parse(most);
    assert.throws(
      () => parse(more),
      (error) => error instanceof JsonTooComplex && error.rule === rule && error.limit === JSON_LIMITS[rule],
    );
  });
}

test("members count for their own object, and what stands in texts counts for nothing", () => {
  parse(`{"a":[${Array.from({ length: 30 }, () => objectOf(9_999)).join(",")}]}`);
  parse(`{"a":{"b":${objectOf(9_999)}},"c":${objectOf(9_999)}}`);
  parse(`{"a":${JSON.stringify(`${"[{,:1".repeat(500_000)}"\\`)}}`);
  parse(`{"a":"${"9".repeat(5_000)}","b":"${"x".repeat(5_000)}"}`);
});

test("bodies that were refused leave nothing behind for the next", () => {
  for (const text of ["[[[[[[", '{"a":{"a":{"a":', `{"a":${objectOf(10_001)}`, "]]]]}}}}"])
    assert.throws(() => parse(text));
  parse(objectOf(10_000));
});

test("128 levels are taken, and brackets inside texts are not levels", () => {
  parse(`{"a":${"[".repeat(127)}${"]".repeat(127)}}`);
  parse(`{"a":"${"[{".repeat(500)}","b":"\\"[\\\\"}`);
});

test("the same name in different objects is not a name that stands twice", () => {
  assert.deepEqual([...parse('{"a":{"b":1},"b":[{"a":1},{"a":2}]}').members.keys()], ["a", "b"]);
});

test("a refusal never repeats what the body held", () => {
  for (const text of ['{"key":"brikk_secret" oops}', '{"key":"brikk_secret', "brikk_secret", '{"key":brikk_secret}']) {
    assert.throws(
      () => parse(text),
      (error) => error instanceof JsonDocumentError && !error.message.includes("secret"),
    );
  }
});

test("any bytes at all are parsed or refused, and nothing else is thrown", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array)),
    fc
      .string({ unit: fc.constantFrom("{", "}", "[", "]", ":", ",", '"', "\\", " ", "1", "a", "e"), maxLength: 40 })
      .map((text) => Buffer.from(text)),
  );
  fc.assert(
    fc.property(bytes, (body) => {
      try {
        const document = parseJsonDocument(body);
        assert.deepEqual([...document.members.keys()].sort(), Object.keys(document.value).sort());
      } catch (error) {
        assert.ok(error instanceof JsonDocumentError, String(error));
      }
    }),
    { numRuns: 3_000 },
  );
});
