import { type InnerList, serializeInnerList } from "structured-headers";

/** A request as it came over the wire, nothing decoded or normalised: a node:http message is one. */
export interface WireRequest {
  readonly method?: string | undefined;
  /** The request target: path and query. */
  readonly url?: string | undefined;
  /** Names and values in turn. */
  readonly rawHeaders: readonly string[];
  /** The same by their names in lower case, for a quick look. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** What of a request can be signed beside its header fields (RFC 9421 §2.2); the others need what a server behind a proxy does not know. */
const DERIVED: Readonly<Record<string, (request: WireRequest) => string | undefined>> = {
  "@method": ({ method }) => method,
  "@path": ({ url = "" }) => url.split("?", 1)[0],
  // The question mark belongs to it, and stands alone where there is no query.
  "@query": ({ url = "" }) => (url.includes("?") ? url.slice(url.indexOf("?")) : "?"),
  "@authority": (request) => fieldValue(request, "host")?.toLowerCase(),
};

/** A field's name in lower case, or one of the derived components. */
export const isSupportedComponent = (name: string): boolean =>
  name.startsWith("@") ? Object.hasOwn(DERIVED, name) : /^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(name);

/** Undefined when the request has no such field. */
const componentValue = (request: WireRequest, name: string): string | undefined =>
  name.startsWith("@") ? DERIVED[name]?.(request) : fieldValue(request, name);

/** All lines of a field, trimmed and joined in their order (RFC 9421 §2.1); undefined when there is none. */
export function fieldValue({ rawHeaders }: WireRequest, name: string): string | undefined {
  let value: string | undefined;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.toLowerCase() !== name) continue;
    const line = rawHeaders[index + 1]!.trim();
    value = value === undefined ? line : `${value}, ${line}`;
  }
  return value;
}

export type SignatureBase =
  | { readonly kind: "base"; readonly bytes: Buffer }
  | { readonly kind: "absent"; readonly component: string };

/**
 * The bytes that are signed (RFC 9421 §2.5): each covered component with its value as it is in the request, then the list of
 * them with the signature's parameters. The components are ones that are supported, each once and without parameters.
 */
export function signatureBase(request: WireRequest, input: InnerList): SignatureBase {
  let base = "";
  for (const [name] of input[0] as [string, unknown][]) {
    const value = componentValue(request, name);
    if (value === undefined) return { kind: "absent", component: name };
    base += `"${name}": ${value}\n`;
  }
  base += `"@signature-params": ${serializeInnerList(input)}`;
  // node:http gives a field's octets as the characters of the same numbers.
  return { kind: "base", bytes: Buffer.from(base, "latin1") };
}
