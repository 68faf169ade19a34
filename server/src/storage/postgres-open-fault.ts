import type { PostgresAddress } from "../lib/postgres-address.ts";
import { codeOf } from "./postgres-failure.ts";

/** What is wrong and what to do, for the causes that a person can do something about. */
export function postgresOpenFault(cause: unknown, { host, port, database, user, password }: PostgresAddress): string {
  const server = `${host}:${port}`;
  const who = user === undefined ? "this user" : `the user "${user}"`;
  const code = codeOf(cause);
  switch (code) {
    case "ECONNREFUSED":
    case "ENOENT":
      return `nothing listens at ${server}. Start PostgreSQL there, or correct the host and port in DATABASE_URL.`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the host name ${host} is not known here. Correct it in DATABASE_URL.`;
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ETIMEDOUT":
      return `${server} cannot be reached from here. Check the network and DATABASE_URL.`;
    case "28P01":
      return `the server refuses the password of ${who}. Correct it in DATABASE_URL.`;
    case "28000":
      return `the server does not let ${who} in from here. Check its pg_hba.conf, or add sslmode=require to DATABASE_URL if it asks for TLS.`;
    case "3D000":
      return `the server has no database of that name. Make it (create database "${database}"), or correct DATABASE_URL.`;
    case "53300":
      return "the server has no connection left. Raise its max_connections, or stop something that uses it.";
    case "57P03":
      return "the server is starting or stopping. Try again in a moment.";
    case "42501":
      return `${who} may not make tables there. Make that user the database's owner.`;
    case "25006":
      return "it can only be read, as a standby can. Set DATABASE_URL to the primary server.";
    case "55P03":
      return "another process holds its tables locked. Wait for it or stop it, then start again.";
    default:
  }
  const messages = messagesOf(cause);
  const message = messages.at(-1) ?? "unknown fault";
  if (messages.some((said) => /timeout|did not answer/.test(said)))
    return `${server} does not answer. Check the host, the port and any firewall between.`;
  if (/does not support SSL/.test(message))
    return "the server has no TLS. Take sslmode out of DATABASE_URL, or set TLS up on the server.";
  if (/client password must be/.test(message) && password === undefined)
    return `the server asks for the password of ${who}, and DATABASE_URL has none.`;
  if (/certificate/i.test(`${message} ${code}`))
    return `the server's TLS certificate is not trusted (${message}). Name the right authority's file with sslrootcert in DATABASE_URL.`;
  return `${message.replace(/\.$/, "")}. Check DATABASE_URL and the server's log.`;
}

/** From the outermost to what was there first. */
function messagesOf(error: unknown): string[] {
  const messages: string[] = [];
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    if (cause.message !== "") messages.push(cause.message);
  return messages;
}
