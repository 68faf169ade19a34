/** What a postgres:// URL says. */
export interface PostgresAddress {
  /** A name, an IP address, or the folder of a Unix socket, which begins with a slash. */
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** As libpq's sslmode has it: `encrypted` trusts any certificate, `verified` asks for one that is in order. */
  readonly tls: "none" | "encrypted" | "verified";
  /** A file with the certificates to trust in the system's place. */
  readonly rootCertificatePath: string | undefined;
  /** Command-line options for the server's process, which some hosted services route by. */
  readonly options: string | undefined;
  readonly channelBinding: boolean;
}

export type ParsedPostgresUrl =
  | { readonly kind: "address"; readonly address: PostgresAddress }
  /** `fault` goes on from "DATABASE_URL" and never repeats what may be a part of a password. */
  | { readonly kind: "faulty"; readonly fault: string };

export const POSTGRES_URL_FORM = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";

const TLS_OF_MODE: Readonly<Record<string, PostgresAddress["tls"]>> = {
  disable: "none",
  require: "encrypted",
  "no-verify": "encrypted",
  "verify-ca": "verified",
  "verify-full": "verified",
};
const PARAMETERS = ["host", "sslmode", "sslrootcert", "options", "channel_binding"];
const ESCAPING = "characters such as @ : / ? # % in a user or a password are written as %40 %3A %2F %3F %23 %25";

export const isPostgresUrl = (url: string): boolean => /^postgres(ql)?:/i.test(url);

/** Reads a URL as PostgreSQL's own tools do (postgresql.org/docs/current/libpq-connect.html, section 32.1.1.2). */
export function parsePostgresUrl(text: string): ParsedPostgresUrl {
  const faulty = (fault: string): ParsedPostgresUrl => ({ kind: "faulty", fault });
  const url = URL.parse(text);
  if (url === null || !/^postgres(ql)?:\/\//i.test(text))
    return faulty(`is not of the form ${POSTGRES_URL_FORM}; ${ESCAPING}`);
  // Where the rest of a password ends up when it was not escaped.
  if (url.hash !== "" || /@/.test(url.pathname + url.search) || /^\/[^/]*\//.test(url.pathname))
    return faulty(`has something after the host that does not belong there; ${ESCAPING}`);

  const user = decoded(url.username);
  const password = decoded(url.password);
  const database = decoded(url.pathname.slice(1));
  const hostname = decoded(url.hostname.replace(/^\[(.*)\]$/, "$1"));
  if (user === undefined || password === undefined || database === undefined || hostname === undefined)
    return faulty(`has a % that begins no escaped character; ${ESCAPING}`);
  if (database === "") return faulty(`names no database; the form is ${POSTGRES_URL_FORM}`);

  const { searchParams } = url;
  const unknown = [...searchParams.keys()].find((name) => !PARAMETERS.includes(name));
  if (unknown !== undefined)
    return faulty(`has a parameter that is not known; known are ${PARAMETERS.join(", ")}; ${ESCAPING}`);
  const socket = searchParams.get("host");
  if (socket !== null && !socket.startsWith("/"))
    return faulty("has a parameter host that is no folder of a socket; other hosts stand before the database's name");
  const host = socket ?? hostname;
  if (host === "") return faulty(`names no host; the form is ${POSTGRES_URL_FORM}`);
  const mode = searchParams.get("sslmode") ?? "disable";
  const tls = TLS_OF_MODE[mode];
  if (tls === undefined) return faulty(`has an unknown sslmode; known are ${Object.keys(TLS_OF_MODE).join(", ")}`);
  return {
    kind: "address",
    address: {
      host,
      port: url.port === "" ? 5_432 : Number(url.port),
      database,
      user: user || undefined,
      password: password || undefined,
      tls,
      rootCertificatePath: searchParams.get("sslrootcert") ?? undefined,
      options: searchParams.get("options") ?? undefined,
      channelBinding: searchParams.get("channel_binding") === "require",
    },
  };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
