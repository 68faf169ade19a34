/**
 * The last guard: who writes to the trail leaves secrets out himself, and what looks like one all the same, such as a key that
 * a caller sends as his request id, is not kept.
 */
export const withoutSecrets = {
  inText: (text: string): string => (text.length < SHORTEST ? text : text.replace(SECRETS, LEFT_OUT)),

  /** As JSON. */
  inDetails: (details: Readonly<Record<string, unknown>>): string =>
    withoutSecrets.inText(
      JSON.stringify(details, (name, value: unknown) => {
        if (typeof value === "bigint") return String(value);
        return typeof value === "string" && SECRET_NAMES.test(name) ? LEFT_OUT : value;
      }),
    ),
};

const LEFT_OUT = "[left out]";
const SHORTEST = 20;
/** Brikk's own keys and signing secrets, what is sealed (Fernet), webhooks' and vendors' keys. */
const SECRETS = /\b(?:brikk_[\w-]{20,}|gAAAA[\w-]{40,}={0,2}|(?:sk|whsec|pk)[-_][\w+/-]{16,}={0,2})/g;
const SECRET_NAMES = /^(?:key|api_?key|password|authorization|(?:\w+_)?(?:secret|token|credential))$/i;
