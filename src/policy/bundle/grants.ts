import { parse } from 'yaml';
import { z } from 'zod';
import { AppError, messageOf, schemaProblems } from '../../runtime/index.ts';
import { isMappedNetwork } from '../address.ts';
import type { PolicyErrorCode } from '../errors.ts';

/** Largest grants file. Files of more than a few thousand grants should be JSON, which parses a hundred times faster. */
export const MAX_GRANTS_BYTES = 64 * 1024 * 1024;
/** YAML above this is refused: it would parse for seconds. */
export const MAX_YAML_BYTES = 4 * 1024 * 1024;

const network = z.string().refine((text) => !isMappedNetwork(text), {
  message: 'ipv4-mapped networks are refused; write the ipv4 network',
});
const hour = z.number().int().min(0).max(24);
const limit = z.number().int().positive();

const grantSchema = z.strictObject({
  id: z.string().min(1),
  owner: z.string().min(1),
  expires: z.string(),
  title: z.string().optional(),
  ticket: z.string().optional(),
  target: z.strictObject({ host: z.string(), port: z.number().int().min(1).max(65_535) }),
  sources: z.array(network).optional(),
  hours: z.strictObject({ from: hour, to: hour }).optional(),
  limits: z
    .strictObject({
      max_seconds: limit,
      max_bytes: limit,
      idle_seconds: limit,
      recheck_seconds: limit,
      max_streams_per_principal: limit,
    })
    .partial()
    .optional(),
});

/** Grants as `data.sallyport.grants` holds them: connection → principal → list. */
export const grantsSchema = z.record(z.string(), z.record(z.string(), z.array(grantSchema)));

export type Grants = z.infer<typeof grantsSchema>;

const refused = (what: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_GRANTS', what, { cause });

const parseText = (text: string): unknown => {
  if (text.trimStart().startsWith('{')) return JSON.parse(text);
  if (text.length > MAX_YAML_BYTES) {
    throw new Error(`yaml of ${String(text.length)} bytes is over ${String(MAX_YAML_BYTES)}; use json`);
  }
  return parse(text, { maxAliasCount: 0 }) as unknown;
};

/**
 * Reads a grants file, YAML or JSON, and returns it as JSON text for the engine.
 * @throws AppError ERR_POLICY_GRANTS naming the first grant that is wrong
 */
export const readGrants = (content: Buffer): string => {
  if (content.length > MAX_GRANTS_BYTES) {
    throw refused(`grants have ${String(content.length)} bytes, the limit is ${String(MAX_GRANTS_BYTES)}`);
  }
  let value: unknown;
  try {
    value = parseText(content.toString('utf8'));
  } catch (cause) {
    throw refused(`grants do not parse: ${messageOf(cause)}`, cause);
  }
  const parsed = grantsSchema.safeParse(value ?? {});
  if (parsed.success) return JSON.stringify(parsed.data);
  const problem = schemaProblems(parsed.error.issues, grantsSchema)[0];
  throw refused(`grant ${problem?.path.join('.') ?? ''}: ${problem?.message ?? 'is malformed'}`);
};
