import assert from "node:assert/strict";
import { spawnSync, type SpawnSyncReturns } from "node:child_process";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import {
  type FernetKey,
  newFernetKey,
  openFernet,
  parseFernetKey,
  parseFernetKeys,
  sealFernet,
} from "../../src/lib/fernet.ts";

const keyOf = (text: string): FernetKey => {
  const key = parseFernetKey(text);
  assert.ok(key, `not a key: ${text}`);
  return key;
};

/** The published examples of github.com/fernet/spec (generate.json, verify.json, invalid.json), all under one key. */
const SPEC_KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
const SPEC_TOKEN =
  "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
const SPEC_INVALID: readonly [what: string, token: string][] = [
  [
    "incorrect mac",
    "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
  ],
  ["too short", "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA=="],
  [
    "invalid base64",
    "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
  ],
  [
    "payload size not multiple of block size",
    "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
  ],
  [
    "payload padding error",
    "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
  ],
  [
    "incorrect IV (causes padding error)",
    "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
  ],
];
/** Refused by the specification for their age alone, which is not looked at here: what is at rest does not expire. */
const SPEC_OUT_OF_TIME: readonly [what: string, token: string][] = [
  [
    "far-future TS (unacceptable clock skew)",
    "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==",
  ],
  [
    "expired TTL",
    "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
  ],
];

test("the specification's token is made from its parts, to the letter, and opens to what it says", () => {
  const key = keyOf(SPEC_KEY);
  const iv = Buffer.from(Array.from({ length: 16 }, (_, index) => index));
  assert.equal(sealFernet(key, Buffer.from("hello"), Date.parse("1985-10-26T01:20:00-07:00"), iv), SPEC_TOKEN);
  assert.equal(openFernet(key, SPEC_TOKEN)?.toString(), "hello");
});

test("each of the specification's invalid tokens is refused; those that are invalid for their age alone are opened", () => {
  const key = keyOf(SPEC_KEY);
  for (const [what, token] of SPEC_INVALID) assert.equal(openFernet(key, token), undefined, what);
  for (const [what, token] of SPEC_OUT_OF_TIME) assert.equal(openFernet(key, token)?.toString(), "", what);
});

test("what is sealed opens under its key and no other, whatever it is", () => {
  const [key, other] = [keyOf(newFernetKey()), keyOf(newFernetKey())];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 4e12 }), (plain, nowMs) => {
      const token = sealFernet(key, Buffer.from(plain), nowMs);
      assert.deepEqual(openFernet(key, token), Buffer.from(plain));
      assert.equal(openFernet(other, token), undefined);
    }),
  );
});

test("a token with any one bit flipped, in its bytes or in its text, is refused; so is one that is cut or longer", () => {
  const key = keyOf(newFernetKey());
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), (plain) => {
      const token = sealFernet(key, Buffer.from(plain), 1_700_000_000_000);
      const bytes = Buffer.from(token, "base64url");
      for (let bit = 0; bit < bytes.length * 8; bit += 1) {
        const changed = Buffer.from(bytes);
        changed[bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(openFernet(key, changed.toString("base64url")), undefined, `bit ${bit} of the bytes`);
      }
      const text = token.replace(/=+$/, "");
      for (let bit = 0; bit < text.length * 8; bit += 1) {
        const changed = Buffer.from(text, "latin1");
        changed[bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(openFernet(key, changed.toString("latin1")), undefined, `bit ${bit} of the text`);
      }
      for (let length = 0; length < text.length; length += 1)
        assert.equal(openFernet(key, text.slice(0, length)), undefined, `cut to ${length}`);
      for (const longer of [`${text}A`, `${text}AAAA`, `A${text}`, `${text}===`, `${text} `, `\n${text}`])
        assert.equal(openFernet(key, longer), undefined);
    }),
    { numRuns: 10 },
  );
});

test("a key is 32 bytes in base64url and nothing that only looks like it; a list of keys has no faulty one", () => {
  const text = newFernetKey();
  assert.match(text, /^[\w-]{43}=$/);
  assert.deepEqual(parseFernetKey(text), parseFernetKey(text.slice(0, 43)));
  const bytes = Buffer.from(text, "base64url");
  assert.deepEqual(parseFernetKey(text), { signing: bytes.subarray(0, 16), encryption: bytes.subarray(16) });
  for (const wrong of [
    "",
    text.slice(1),
    `${text}=`,
    `A${text}`,
    randomBytes(31).toString("base64url"),
    randomBytes(33).toString("base64url"),
    // The same bytes in another spelling, which was not given out.
    `${"A".repeat(42)}B=`,
    Buffer.alloc(32, 0xff).toString("base64"),
  ])
    assert.equal(parseFernetKey(wrong), undefined, wrong);
  const other = newFernetKey();
  assert.deepEqual(parseFernetKeys(` ${text}, ${other},`), [parseFernetKey(text), parseFernetKey(other)]);
  for (const wrong of ["", ",", `${text},oops`, `oops,${text}`]) assert.equal(parseFernetKeys(wrong), undefined);
});

/** The first Python that has the `cryptography` package; BRIKK_PYTHON names one. */
const python = [process.env["BRIKK_PYTHON"], "python3"].find(
  (path) =>
    path !== undefined &&
    path !== "" &&
    spawnSync(path, ["-c", "import cryptography.fernet"], { stdio: "ignore" }).status === 0,
);
const mustRun = process.env["BRIKK_NO_SKIP"] === "1";
const absent = "no Python with the cryptography package; set BRIKK_PYTHON to one";
if (python === undefined && !mustRun) process.stderr.write(`SKIPPED fernet with Python: ${absent}\n`);

/** Opens what it is given and seals each anew, in hexadecimal, since the texts are any bytes. */
const PYTHON = `
import json, sys
from cryptography.fernet import Fernet
asked = json.load(sys.stdin)
fernet = Fernet(asked["key"])
opened = [fernet.decrypt(token) for token in asked["tokens"]]
print(json.dumps({
    "opened": [plain.hex() for plain in opened],
    "sealed": [fernet.encrypt(plain).decode() for plain in opened],
    "key": Fernet.generate_key().decode(),
}))
`;

test(
  "Python's cryptography opens what is sealed here, and what it seals is opened here, under keys of either",
  { skip: python === undefined && !mustRun ? absent : false },
  () => {
    assert.ok(python !== undefined, absent);
    let key: string = newFernetKey();
    const plains = [
      Buffer.alloc(0),
      Buffer.from("hello"),
      ...[1, 15, 16, 17, 31, 32, 1_000, 70_000].map((length) => randomBytes(length)),
    ];
    // The second time under a key of Python's own.
    for (const whose of ["ours", "Python's"]) {
      const tokens = plains.map((plain) => sealFernet(keyOf(key), plain, Date.now()));
      const ran: SpawnSyncReturns<string> = spawnSync(python, ["-c", PYTHON], {
        input: JSON.stringify({ key, tokens }),
        encoding: "utf8",
        maxBuffer: 16 * 1024 * 1024,
      });
      assert.equal(ran.status, 0, ran.stderr);
      const answer = JSON.parse(ran.stdout) as { opened: string[]; sealed: string[]; key: string };
      assert.deepEqual(
        answer.opened,
        plains.map((plain) => plain.toString("hex")),
        whose,
      );
      assert.deepEqual(
        answer.sealed.map((token) => openFernet(keyOf(key), token)),
        plains,
        whose,
      );
      ({ key } = answer);
    }
  },
);
