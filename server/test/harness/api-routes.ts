import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { FastifyInstance, RouteOptions } from "fastify";
import { startGateway } from "./gateway-under-test.ts";

/** A JSON schema, as far as the API's document uses them. */
export interface Schema {
  readonly type?: "object" | "array" | "string" | "number" | "integer" | "boolean";
  readonly nullable?: boolean;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly example?: unknown;
}

/** A route that the app registers, with what the API's document says of it. */
export interface ApiRoute {
  readonly method: string;
  /** As it is registered: `/agents/:agent/chat`. */
  readonly template: string;
  /** For who has the admin token. */
  readonly admin: boolean;
  /** For who has no key. */
  readonly open: boolean;
  /** Undefined: it takes none, or is not in the document. */
  readonly body: Schema | undefined;
  readonly queryNames: readonly string[];
  readonly headerNames: readonly string[];
}

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
}

interface ApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

/** Every route of an app with these settings, noted as it registers them, so that one that is added later is among them. */
export async function listApiRoutes(environment: Readonly<Record<string, string>>): Promise<readonly ApiRoute[]> {
  const registered: RouteOptions[] = [];
  const note = (message: unknown): void =>
    void (message as { fastify: FastifyInstance }).fastify.addHook("onRoute", (route) => void registered.push(route));
  subscribe("fastify.initialization", note);
  const gateway = await startGateway({ environment });
  unsubscribe("fastify.initialization", note);
  try {
    const document = (await (await fetch(`${gateway.url}/openapi.json`)).json()) as ApiDocument;
    return registered.flatMap(({ method, url, config }) =>
      [method].flat().map((one): ApiRoute => {
        const path = url.replace(/:(\w+)/g, "{$1}");
        const operation = document.paths[path]?.[one.toLowerCase()];
        const named = (place: string): string[] =>
          (operation?.parameters ?? []).filter((parameter) => parameter.in === place).map(({ name }) => name);
        const body = operation?.requestBody?.content["application/json"]?.schema;
        return {
          method: one,
          template: url,
          admin: config?.admin === true,
          open: config?.open === true,
          body: body && resolved(body, document.components.schemas),
          queryNames: named("query"),
          headerNames: named("header"),
        };
      }),
    );
  } finally {
    await gateway.close();
  }
}

const DEEPEST = 12;

/** The schema with what it refers to put in place. */
function resolved(schema: Schema, schemas: Readonly<Record<string, Schema>>, depth = 0): Schema {
  if (depth > DEEPEST) return {};
  const { $ref, ...rest } = schema as Schema & { readonly $ref?: string };
  if ($ref !== undefined) return resolved(schemas[$ref.split("/").at(-1)!]!, schemas, depth + 1);
  const inner = (one: Schema): Schema => resolved(one, schemas, depth + 1);
  return {
    ...rest,
    ...(schema.properties && {
      properties: Object.fromEntries(Object.entries(schema.properties).map(([name, one]) => [name, inner(one)])),
    }),
    ...(schema.items && { items: inner(schema.items) }),
    ...(schema.anyOf && { anyOf: schema.anyOf.map(inner) }),
    ...(schema.oneOf && { oneOf: schema.oneOf.map(inner) }),
    ...(schema.allOf && { allOf: schema.allOf.map(inner) }),
    ...(typeof schema.additionalProperties === "object" && {
      additionalProperties: inner(schema.additionalProperties),
    }),
  };
}

/** A body that the route takes: the document's own example, or the least that its schema asks for. */
export const exampleBody = (route: ApiRoute): unknown => (route.body === undefined ? undefined : exampleOf(route.body));

function exampleOf(schema: Schema): unknown {
  if (schema.example !== undefined) return schema.example;
  const [branch] = schema.anyOf ?? schema.oneOf ?? schema.allOf ?? [];
  if (branch !== undefined) return exampleOf(branch);
  if (schema.enum !== undefined) return schema.enum[0];
  switch (schema.type) {
    case "object":
      return Object.fromEntries(
        (schema.required ?? []).map((name) => [name, exampleOf(schema.properties?.[name] ?? { type: "string" })]),
      );
    case "array":
      return Array.from({ length: schema.minItems ?? 0 }, () => exampleOf(schema.items ?? {}));
    case "integer":
    case "number":
      return schema.minimum ?? 1;
    case "boolean":
      return true;
    case "string":
    case undefined:
      return "x".repeat(Math.max(1, schema.minLength ?? 1));
    default:
      return schema.type satisfies never;
  }
}

/** The path with its parameters, and whatever a `*` stands for, filled in. */
export const pathOf = ({ template }: ApiRoute, value: string): string =>
  template.replace(/:\w+/g, value).replace(/\*$/, value);
