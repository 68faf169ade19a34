import { hashText, seededRandom } from "../seeded-random.ts";
import type { TokenPiece } from "../tokens.ts";

interface TokenLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

const ALTERNATIVES = [
  " the",
  " a",
  ",",
  ".",
  " and",
  " to",
  " of",
  " in",
  " is",
  " that",
  " for",
  " it",
  " with",
  " as",
  " on",
  " be",
  " this",
  " or",
  " by",
  " are",
  " an",
];

/** Plausible log probabilities for the pieces: the chosen token first, then `top - 1` less likely ones. */
export function tokenLogprobs(
  pieces: readonly TokenPiece[],
  top: number,
): (TokenLogprob & { top_logprobs: TokenLogprob[] })[] {
  return pieces.map((piece) => {
    const random = seededRandom(hashText(piece.text));
    const chosen = tokenLogprob(piece.text, Math.log(0.6 + random() * 0.399));
    const others = ALTERNATIVES.filter((token) => token !== piece.text).slice(0, Math.max(0, top - 1));
    let logprob = chosen.logprob - 1;
    const alternatives = others.map((token) => tokenLogprob(token, (logprob -= 0.3 + random())));
    return { ...chosen, top_logprobs: top === 0 ? [] : [chosen, ...alternatives] };
  });
}

function tokenLogprob(token: string, logprob: number): TokenLogprob {
  return { token, logprob: Math.round(logprob * 1e6) / 1e6, bytes: [...Buffer.from(token)] };
}
