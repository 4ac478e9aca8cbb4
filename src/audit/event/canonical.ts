import { auditError } from '../errors.ts';

/** Deepest nesting of a canonical document. */
const MAX_DEPTH = 32;

const write = (value: unknown, depth: number): string => {
  if (depth > MAX_DEPTH) throw auditError('ERR_AUDIT_CANONICAL', `value nests deeper than ${MAX_DEPTH}`);
  switch (typeof value) {
    case 'string':
      if (!value.isWellFormed()) throw auditError('ERR_AUDIT_CANONICAL', 'text holds a lone surrogate');
      return JSON.stringify(value);
    case 'number':
      if (!Number.isFinite(value)) throw auditError('ERR_AUDIT_CANONICAL', `number ${value} is not finite`);
      return JSON.stringify(value);
    case 'boolean':
      return value ? 'true' : 'false';
    case 'object':
      break;
    default:
      throw auditError('ERR_AUDIT_CANONICAL', `a ${typeof value} has no canonical form`);
  }
  if (value === null) return 'null';
  if (Array.isArray(value)) return `[${value.map((item) => write(item, depth + 1)).join(',')}]`;
  const members = value as Record<string, unknown>;
  const parts: string[] = [];
  for (const name of Object.keys(members).sort()) {
    if (members[name] !== undefined) parts.push(`${write(name, depth)}:${write(members[name], depth + 1)}`);
  }
  return `{${parts.join(',')}}`;
};

/**
 * The RFC 8785 form of a JSON value: members sorted by UTF-16 code units, ECMAScript numbers, no white space.
 * Members that are `undefined` are left out.
 * @throws AppError ERR_AUDIT_CANONICAL for what RFC 8785 cannot express (NaN, lone surrogates, functions).
 */
export const canonicalJson = (value: unknown): string => write(value, 0);
