import type { ZodType } from 'zod';

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A value that the reader accepts as well: `${NAME}` stands for whatever the environment has. */
const VARIABLE = { type: 'string', pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}' };
const VARIABLE_TYPES: ReadonlySet<unknown> = new Set(['integer', 'number', 'boolean']);

/** Adds what the reader of configuration allows beside the schema: `x_file` for text `x`, and variables. */
const loosen = (node: unknown): unknown => {
  if (Array.isArray(node)) return node.map(loosen);
  if (!isObject(node)) return node;
  const out: Json = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, loosen(value)]));
  const properties = isObject(node['properties']) ? node['properties'] : undefined;
  if (properties !== undefined) {
    const texts = Object.entries(properties).filter(
      ([key, value]) =>
        isObject(value) && value['type'] === 'string' && !key.endsWith('_file') && !key.endsWith('_dir'),
    );
    const files = texts.map(([key]) => [
      `${key}_file`,
      { type: 'string', description: `path of a file with ${key}` },
    ]);
    out['properties'] = { ...(out['properties'] as Json), ...Object.fromEntries(files) };
    const required = Array.isArray(node['required']) ? (node['required'] as string[]) : [];
    const textKeys = new Set(texts.map(([key]) => key));
    const either = required.filter((key) => textKeys.has(key));
    out['required'] = required.filter((key) => !textKeys.has(key));
    if (either.length > 0) {
      out['allOf'] = either.map((key) => ({ oneOf: [{ required: [key] }, { required: [`${key}_file`] }] }));
    }
  }
  return VARIABLE_TYPES.has(node['type']) ? { anyOf: [out, VARIABLE] } : out;
};

/**
 * JSON Schema (draft 2020-12) of a configuration file as it is written, for editors.
 * @param isSelfContained as for reading: neither variables nor `x_file` are legal
 */
export const configJsonSchema = async (
  schema: ZodType,
  title: string,
  isSelfContained = false,
): Promise<Json> => {
  const { toJSONSchema } = await import('zod');
  const { $schema, ...rest } = toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Json;
  return { $schema, title, ...((isSelfContained ? rest : loosen(rest)) as Json) };
};
