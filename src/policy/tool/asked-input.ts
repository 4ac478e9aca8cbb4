import { parse } from 'yaml';
import { z } from 'zod';
import { AppError, messageOf, schemaProblems } from '../../runtime/index.ts';
import { normalizeCandidates } from '../address.ts';
import type { PolicyErrorCode } from '../errors.ts';

/** As much of an input as is needed to ask about it; the policy sees all of it. */
const inputSchema = z.looseObject({
  action: z.enum(['publish', 'stream']),
  connection: z.looseObject({ name: z.string() }),
  target: z.looseObject({
    host: z.string(),
    port: z.number(),
    address: z.string().optional(),
    addresses: z.array(z.string()).optional(),
  }),
});

/** One input with the addresses to ask about, all in the form in which an agent asks. */
export interface AskedInput {
  readonly action: 'publish' | 'stream';
  readonly connection: string;
  readonly host: string;
  readonly port: number;
  /** Normalised, at least one. */
  readonly addresses: readonly string[];
  /** The whole input for one of the addresses. */
  readonly at: (address: string) => Readonly<Record<string, unknown>>;
}

const refused = (message: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_INPUT', message, { cause });

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A vector holds its input, and so does a recorded decision, as text. */
const unwrap = (value: unknown): unknown => {
  if (typeof value === 'string') return unwrap(JSON.parse(value));
  if (!isObject(value) || !('action' in value)) {
    if (isObject(value) && 'input' in value) return unwrap(value['input']);
    if (isObject(value) && 'data' in value) return unwrap(value['data']);
  }
  return value;
};

/**
 * Reads an input as JSON or YAML: the input itself, a vector, or a recorded decision, whose input has no
 * `target.address` because it was asked for each of `target.addresses`.
 * @throws AppError ERR_POLICY_INPUT naming the field that is wrong; ERR_POLICY_ADDRESS
 */
export const readAskedInput = (text: string): AskedInput => {
  let value: unknown;
  try {
    value = unwrap(parse(text, { merge: true }));
  } catch (cause) {
    throw refused(`the input is neither json nor yaml: ${messageOf(cause)}`, cause);
  }
  if (Array.isArray(value)) throw refused('the input is a list; give one input, or one vector');
  const parsed = inputSchema.safeParse(value);
  if (!parsed.success) {
    const problem = schemaProblems(parsed.error.issues, inputSchema)[0];
    throw refused(
      `the input is no policy input: ${problem?.path.join('.') ?? ''}: ${problem?.message ?? 'is malformed'}`,
    );
  }
  const { data } = parsed;
  const { address, addresses = [] } = data.target;
  const resolved = normalizeCandidates(
    addresses.length === 0 && address !== undefined ? [address] : addresses,
  );
  const asked = address === undefined ? resolved : normalizeCandidates([address]);
  if (asked.length === 0) {
    throw refused('the input has no address: give target.address, target.addresses or both');
  }
  return {
    action: data.action,
    connection: data.connection.name,
    host: data.target.host,
    port: data.target.port,
    addresses: asked,
    at: (one) => ({ ...data, target: { ...data.target, address: one, addresses: resolved } }),
  };
};
