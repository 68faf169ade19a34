import assert from "node:assert/strict";
import { test } from "node:test";
import { isPostgresUrl, parsePostgresUrl, type PostgresAddress } from "../../src/lib/postgres-address.ts";

const PLAIN: PostgresAddress = {
  host: "db.example",
  port: 5_432,
  database: "brikk",
  user: undefined,
  password: undefined,
  tls: "none",
  rootCertificatePath: undefined,
  options: undefined,
  channelBinding: false,
};

const accepted: readonly [string, Partial<PostgresAddress>][] = [
  ["postgres://db.example/brikk", {}],
  ["POSTGRESQL://db.example:6543/brikk", { port: 6_543 }],
  ["postgres://u:p@db.example/brikk", { user: "u", password: "p" }],
  ["postgres://a%40b:p%2F%3F%23%40%25@db.example/brikk", { user: "a@b", password: "p/?#@%" }],
  ["postgres://u@[::1]:5433/brikk", { user: "u", host: "::1", port: 5_433 }],
  ["postgres://db.example/my%20data%2Fbase", { database: "my data/base" }],
  ["postgres:///brikk?host=/run/postgresql", { host: "/run/postgresql" }],
  ["postgres://db.example/brikk?sslmode=require", { tls: "encrypted" }],
  ["postgres://db.example/brikk?sslmode=disable", { tls: "none" }],
  [
    "postgres://db.example/brikk?sslmode=verify-full&sslrootcert=/etc/ca.pem&channel_binding=require&options=-c%20a=b",
    { tls: "verified", rootCertificatePath: "/etc/ca.pem", channelBinding: true, options: "-c a=b" },
  ],
];
for (const [url, differs] of accepted) {
  test(`${url} is understood as PostgreSQL's own tools understand it`, () => {
    assert.ok(isPostgresUrl(url));
    assert.deepEqual(parsePostgresUrl(url), { kind: "address", address: { ...PLAIN, ...differs } });
  });
}

const refused: readonly [string, RegExp][] = [
  ["postgres:", /is not of the form postgres:\/\/USER/],
  ["postgres:db.example/brikk", /is not of the form/],
  ["postgres://", /names no database/],
  ["postgres://db.example", /names no database/],
  ["postgres:///brikk", /names no host/],
  ["postgres://db.example:99999/brikk", /is not of the form/],
  ["postgres://u:hunter2#x@db.example/brikk", /is not of the form|does not belong there/],
  ["postgres://u:42#hunter2@db.example/brikk", /does not belong there/],
  ["postgres://u:42/hunter2@db.example/brikk", /does not belong there/],
  ["postgres://u:42?hunter2@db.example/brikk", /does not belong there/],
  ["postgres://u:42/x?hunter2@db.example/brikk", /does not belong there/],
  ["postgres://u:hunter2%zz@db.example/brikk", /a % that begins no escaped character/],
  ["postgres://u:hunter2@db.example/brikk/more", /does not belong there/],
  ["postgres://u:hunter2@db.example/brikk?sslmode=prefer", /unknown sslmode; known are disable/],
  ["postgres://u:hunter2@db.example/brikk?hunter2=1", /a parameter that is not known; known are host, sslmode/],
  ["postgres://u:hunter2@db.example/brikk?host=other.example", /no folder of a socket/],
];
for (const [url, said] of refused) {
  test(`${url} is refused in words that repeat nothing of it`, () => {
    const parsed = parsePostgresUrl(url);
    assert.equal(parsed.kind, "faulty");
    assert.match(parsed.fault, said);
    assert.ok(!parsed.fault.includes("hunter2"));
    assert.ok(!parsed.fault.includes("db.example"));
  });
}

test("other addresses are not taken for one of PostgreSQL", () => {
  for (const url of ["sqlite:./postgres.db", "mysql://postgres:postgres@x/y", "./postgres:", ""])
    assert.ok(!isPostgresUrl(url));
});
