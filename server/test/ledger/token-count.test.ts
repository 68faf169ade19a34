import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import fc from "fast-check";
import { countTokens } from "gpt-tokenizer/encoding/o200k_base";
import {
  boundTokens,
  createTokenCounter,
  cutIntoPieces,
  estimateTokens,
  LONGEST_PIECE,
  type TokenCounterLimits,
} from "../../src/ledger/token-count.ts";

/** Time to load a tokenizer on a busy machine; no test waits for it to pass. */
const PATIENT: Partial<TokenCounterLimits> = { timeoutMs: 60_000 };
const exactly = (text: string) => countTokens(text, { disallowedSpecial: new Set<string>() });
const PROSE =
  "The gateway authenticates the caller, holds the request to a budget and streams the answer back. ".repeat(100);

test("texts are counted as the tokenizer counts them, several calls at once", async () => {
  const counter = createTokenCounter(PATIENT);
  try {
    const [prose, two, none] = await Promise.all([
      counter.count([PROSE]),
      counter.count(["Hello, world!", "こんにちは"]),
      counter.count([]),
    ]);
    assert.equal(prose, exactly(PROSE));
    assert.equal(two, exactly("Hello, world!") + exactly("こんにちは"));
    assert.equal(none, 0);
  } finally {
    await counter.close();
  }
});

test("odd text is counted, not refused", async () => {
  const counter = createTokenCounter(PATIENT);
  try {
    for (const text of ["\ud800", "a\udc00b", "<|endoftext|><|im_start|>", "\0\0", "👨‍👩‍👧"]) {
      assert.equal(await counter.count([text]), exactly(text), JSON.stringify(text));
    }
    assert.equal(await counter.count(["", ""]), 0);
  } finally {
    await counter.close();
  }
});

test("100 kB of one character is counted by pieces of bounded length", async () => {
  const counter = createTokenCounter(PATIENT);
  try {
    const pieces = 100_000 / LONGEST_PIECE;
    assert.equal(await counter.count(["a".repeat(100_000)]), pieces * exactly("a".repeat(LONGEST_PIECE)));
    assert.equal(await counter.count(["€".repeat(10_000)]), 10_000);
  } finally {
    await counter.close();
  }
});

test("a cut keeps every character, its bound, and surrogate pairs whole", () => {
  const chunk = fc.oneof(
    fc.string({ unit: "binary", maxLength: 50 }),
    fc
      .tuple(fc.constantFrom("a", " ", "好", "😀", "\ud800", "\udc00"), fc.nat(3000))
      .map(([unit, times]) => unit.repeat(times)),
  );
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 8 }), (chunks) => {
      const text = chunks.join("");
      const pieces = cutIntoPieces(text);
      assert.equal(pieces.join(""), text);
      assert.ok(pieces.every((piece) => piece.length <= LONGEST_PIECE));
      for (const [index, piece] of pieces.entries()) {
        const splitsPair = /[\ud800-\udbff]$/.test(pieces[index - 1] ?? "") && /^[\udc00-\udfff]/.test(piece);
        assert.ok(!splitsPair);
      }
    }),
  );
});

test("a full queue, too long a text and a closed counter are answered by the estimate, at once", async () => {
  const estimate = estimateTokens(PROSE);
  const full = createTokenCounter({ waitingCalls: 0 });
  assert.equal(await full.count([PROSE]), estimate);
  const short = createTokenCounter({ charactersPerCall: 10 });
  assert.equal(await short.count([PROSE]), estimate);
  const closed = createTokenCounter(PATIENT);
  const waiting = [closed.count([PROSE]), closed.count([PROSE])];
  await closed.close();
  assert.deepEqual(await Promise.all(waiting), [estimate, estimate]);
  assert.equal(await closed.count([PROSE]), estimate);
  await closed.close();
});

test("a count that is out of time becomes the estimate, and the next call is served", async () => {
  const counter = createTokenCounter({ timeoutMs: 1 });
  try {
    assert.equal(await counter.count(["好".repeat(100_000)]), estimateTokens("好".repeat(100_000)));
    assert.equal(await counter.count([PROSE]), estimateTokens(PROSE));
  } finally {
    await counter.close();
  }
});

test("an idle worker does not keep the process alive", async () => {
  const module = JSON.stringify(new URL("../../src/ledger/token-count.ts", import.meta.url).href);
  const script = `const { createTokenCounter } = await import(${module}); await createTokenCounter().count(["hello"]);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: "ignore",
    timeout: 60_000,
  });
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("the estimate stays near the tokenizer's count for prose in the panel's languages and for code", () => {
  const samples = [
    PROSE,
    "El presupuesto de la clave no alcanza para esta solicitud; inténtelo de nuevo cuando se reinicie la ventana diaria.",
    "このゲートウェイは、呼び出し元を認証し、予算の範囲内でリクエストをプロバイダーに送信して、応答をストリーミングします。",
    "تتحقق البوابة من هوية المتصل وتحافظ على الميزانية ثم ترسل الطلب إلى المزود وتعيد الإجابة تدريجيا.",
    cutIntoPieces.toString(),
  ];
  for (const sample of samples) {
    const ratio = estimateTokens(sample) / exactly(sample);
    assert.ok(ratio > 0.75 && ratio < 1.35, `${ratio.toFixed(2)} for ${sample.slice(0, 20)}`);
  }
});

test("neither the count nor the estimate is ever above the bound, and only an empty text has none", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: "binary", maxLength: 300 }),
        fc.string({ unit: "grapheme", maxLength: 100 }),
        fc.string(),
      ),
      (text) => {
        assert.ok(exactly(text) <= boundTokens(text));
        assert.ok(estimateTokens(text) <= boundTokens(text));
        assert.equal(estimateTokens(text) === 0, text === "");
      },
    ),
  );
});
