import { z } from 'zod';
import { problemSchema } from './problem.ts';
import type { Route } from './route.ts';

const schemaOf = (schema: z.ZodType, io: 'input' | 'output'): object =>
  z.toJSONSchema(schema, { target: 'draft-2020-12', io, unrepresentable: 'any' });

/** Parameters of a path or query from the object schema that validates them. */
const parametersOf = (schema: z.ZodType, where: 'path' | 'query'): object[] => {
  const json = schemaOf(schema, 'input') as {
    readonly properties?: Readonly<Record<string, object>>;
    readonly required?: readonly string[];
  };
  return Object.entries(json.properties ?? {}).map(([name, property]) => ({
    name,
    in: where,
    required: json.required?.includes(name) ?? false,
    schema: property,
  }));
};

const idOf = (route: Route): string =>
  [route.method, ...route.path.split(/[/{}-]+/).filter((part) => part !== '')]
    .map((part, index) => (index === 0 ? part : part.charAt(0).toUpperCase() + part.slice(1)))
    .join('');

/** A body that may be left out is one whose every member may. */
const requestBodyOf = (body: z.ZodType): object => ({
  required: !body.safeParse({}).success,
  content: { 'application/json': { schema: schemaOf(body, 'input') } },
});

const operationOf = (route: Route): object => ({
  operationId: idOf(route),
  summary: route.summary,
  description: `Role: ${route.role} or above.`,
  parameters: [
    ...parametersOf(route.params, 'path'),
    ...parametersOf(route.query, 'query'),
    ...(route.ifMatch
      ? [{ name: 'If-Match', in: 'header', required: false, schema: { type: 'string' } }]
      : []),
  ],
  ...(route.body === undefined ? {} : { requestBody: requestBodyOf(route.body) }),
  responses: {
    [String(route.status)]: {
      description: 'Done',
      content: { 'application/json': { schema: schemaOf(route.response, 'output') } },
    },
    default: {
      description: 'Problem (RFC 9457) with a stable code',
      content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
    },
  },
});

/** The OpenAPI 3.1 document of some routes, made of the schemas that validate them. */
export const openApiDocument = (routes: readonly Route[], version: string): object => {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) (paths[route.path] ??= {})[route.method] = operationOf(route);
  return {
    openapi: '3.1.0',
    info: { title: 'Sallyport management API', version },
    servers: [{ url: '/api/v1' }],
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: { Problem: schemaOf(problemSchema, 'output') },
    },
  };
};
