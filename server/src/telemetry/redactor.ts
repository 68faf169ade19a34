/**
 * Keeps secrets out of whatever leaves the gateway as text: log lines, error messages, what callers may choose and others may
 * read. Two kinds are found: those that it was told of, to the letter, and those that are known by their form or by the name of
 * the member that holds them.
 *
 * A log line is written for every request, so that a line is first searched by one expression for anything that may be a
 * secret's beginning (under a microsecond for the line of a request); only where there is one it is read as JSON, and every
 * text in it is gone through.
 */
export interface Redactor extends SecretSearch {
  /**
   * For what is shown to whoever chose part of it: an answer that shows whether a text is a secret lets secrets be guessed, without
   * end and without a trace. So of those it was told of it knows the long ones alone, which nobody finds by guessing.
   */
  readonly towardsCallers: SecretSearch;
  /** From now on these are secrets, too. */
  learn(secrets: Iterable<string>): void;
}

export interface SecretSearch {
  /** A JSON document, with or without a line's end; anything else is taken as text. What comes out is JSON if what came in was. */
  json(document: string): string;
  text(text: string): string;
  /** Whether there is a secret in the text, so that it may not be kept or repeated at all. */
  finds(text: string): boolean;
}

const REDACTED = "[redacted]";

/** A shorter one would also be found where it only happens to stand, in words and numbers. */
const LEAST_KNOWN_LENGTH = 8;
/** As long as an admin token is at least; database passwords may be shorter. */
const LEAST_UNGUESSABLE_LENGTH = 16;

const FORMS: readonly { readonly pattern: RegExp; readonly replacement: string }[] = [
  // Of a caller's secret, ours to show are the first 6 characters (see access/secret.ts).
  { pattern: /brikk_sig_[\w-]{8,}|brikk_[0-9A-Za-z]{10,}/g, replacement: REDACTED },
  { pattern: /whsec_[\w+/=-]{4,}/g, replacement: REDACTED },
  // Vendors that refuse a key like to repeat it, some with its middle in asterisks.
  { pattern: /(?<![A-Za-z0-9])sk-[\w*-]{6,}/g, replacement: REDACTED },
  // Not the form that our own messages tell.
  { pattern: /\b([Bb]earer|[Bb]asic)\s+(?!brikk_\.\.\.)[\w.~+/=-]{6,}/g, replacement: `$1 ${REDACTED}` },
  // Fernet: a key, and what is sealed under one.
  { pattern: /(?<![\w-])[\w-]{43}=(?![\w=-])/g, replacement: REDACTED },
  { pattern: /(?<![\w-])gAAAAA[\w-]{20,}={0,2}/g, replacement: REDACTED },
  { pattern: /([a-z][a-z0-9+.-]*:\/\/[^\s/?#@:"]*):[^\s/?#@"]+@/gi, replacement: `$1:${REDACTED}@` },
  {
    pattern: /([?&](?:api[_-]?key|key|secret|password|(?:access_)?token)=)[^\s&#"]+/gi,
    replacement: `$1${REDACTED}`,
  },
];

/** Members whose text is a secret by their name. */
const MEMBERS = [
  "(?:proxy-)?authorization",
  "(?:set-)?cookie",
  "x-(?:brikk-)?api-key",
  "api[_-]?keys?",
  "(?:new_|old_)?key",
  "secrets?",
  "(?:signing|client|webhook)[_-]?secret",
  "password",
  "token",
  "(?:access|admin|refresh)[_-]?token",
  "encryption[_-]?keys?",
].join("|");
const SECRET_MEMBER = new RegExp(`^(?:${MEMBERS})$`, "i");

/** Whether what stands under the name is a secret, whatever it looks like. */
export const isSecretMember = (name: string): boolean => SECRET_MEMBER.test(name);

/** Each form above, and each member, begins, ends or is found with one of these. */
const TRACES = [
  "brikk_",
  "whsec_",
  "sk-",
  "earer ",
  "asic ",
  "gAAAAA",
  "=",
  "://",
  ...["uthorization", "ookie", "ey", "eys", "ecret", "ecrets", "assword", "oken"].map((ending) => `${ending}":"`),
];

export function createRedactor(secrets: Iterable<string> = []): Redactor {
  const everything = createSearch(LEAST_KNOWN_LENGTH);
  const towardsCallers = createSearch(LEAST_UNGUESSABLE_LENGTH);
  const learn = (more: Iterable<string>): void => {
    const secretsNow = [...more];
    for (const search of [everything, towardsCallers]) search.learn(secretsNow);
  };
  learn(secrets);
  return { ...everything, towardsCallers, learn };
}

function createSearch(leastLength: number): SecretSearch & Pick<Redactor, "learn"> {
  const known = new Set<string>();
  let anyTrace: RegExp;
  let exactly: RegExp | undefined;

  function learn(more: Iterable<string>): void {
    for (const secret of more) {
      if (secret.length < leastLength) continue;
      for (const spelling of [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)])
        known.add(spelling);
    }
    // The longest first, as one may be the beginning of another.
    const exact = [...known].toSorted((a, b) => b.length - a.length).map((secret) => RegExp.escape(secret));
    exactly = exact.length === 0 ? undefined : new RegExp(exact.join("|"), "g");
    anyTrace = new RegExp([...TRACES.map((trace) => RegExp.escape(trace)), ...exact].join("|"));
  }

  function text(given: string): string {
    let redacted = exactly === undefined ? given : given.replace(exactly, REDACTED);
    for (const { pattern, replacement } of FORMS) redacted = redacted.replace(pattern, replacement);
    return redacted;
  }

  function value(given: unknown): unknown {
    if (typeof given === "string") return text(given);
    if (Array.isArray(given)) return given.map(value);
    if (given === null || typeof given !== "object") return given;
    return Object.fromEntries(
      Object.entries(given).map(([name, member]) => [
        text(name),
        typeof member === "string" && member !== "" && isSecretMember(name) ? REDACTED : value(member),
      ]),
    );
  }

  learn([]);
  return {
    json(document) {
      if (!anyTrace.test(document)) return document;
      let parsed: unknown;
      try {
        parsed = JSON.parse(document);
      } catch {
        return text(document);
      }
      return `${JSON.stringify(value(parsed))}${document.endsWith("\n") ? "\n" : ""}`;
    },
    text: (given) => (anyTrace.test(given) ? text(given) : given),
    finds: (given) => anyTrace.test(given) && text(given) !== given,
    learn,
  };
}
