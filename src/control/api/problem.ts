import { z } from 'zod';
import { AppError, foreignCodeOf, isAppError, terminalText } from '../../runtime/index.ts';

/** What a client did wrong, field by field. */
export interface FieldProblem {
  readonly path: string;
  readonly message: string;
  /** The offending value, cut to 200 characters; absent where it might be a secret. */
  readonly value?: string;
}

/** An RFC 9457 problem on its way to a client. Not an AppError: it has a status and is no failure of ours. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly errors: readonly FieldProblem[] | undefined;
  /** Sent as Retry-After, seconds. */
  readonly retryAfterS: number | undefined;

  constructor(
    status: number,
    code: string,
    detail: string,
    errors?: readonly FieldProblem[],
    retryAfterS?: number,
  ) {
    super(detail);
    this.name = 'Problem';
    this.status = status;
    this.code = code;
    this.errors = errors;
    this.retryAfterS = retryAfterS;
  }
}

export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  /** Stable. */
  code: z.string(),
  detail: z.string(),
  errors: z
    .array(z.object({ path: z.string(), message: z.string(), value: z.string().optional() }))
    .optional(),
});

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not found',
  405: 'Method not allowed',
  409: 'Conflict',
  412: 'Precondition failed',
  413: 'Content too large',
  415: 'Unsupported media type',
  421: 'Misdirected request',
  429: 'Too many requests',
  500: 'Internal error',
  503: 'Service unavailable',
};

export const problemBody = (problem: Problem): z.infer<typeof problemSchema> => ({
  type: `urn:sallyport:problem:${problem.code}`,
  title: TITLES[problem.status] ?? 'Problem',
  status: problem.status,
  code: problem.code,
  detail: problem.message,
  ...(problem.errors === undefined
    ? {}
    : {
        errors: problem.errors.map(({ path, message, value }) => ({
          path,
          message,
          ...(value === undefined ? {} : { value }),
        })),
      }),
});

const STATUS_OF_CODE: Readonly<Record<string, readonly [number, string]>> = {
  ERR_CONTROL_NOT_FOUND: [404, 'not_found'],
  ERR_CONTROL_EXISTS: [409, 'exists'],
  ERR_CONTROL_CONFLICT: [409, 'conflict'],
  ERR_CONTROL_INVALID: [400, 'invalid'],
  ERR_CONTROL_UNAVAILABLE: [503, 'unavailable'],
  ERR_CONTROL_SCHEMA: [503, 'not_migrated'],
};

/** Errors of express and its body parser that are the client's doing, by their `type`. */
const PARSER_PROBLEMS: Readonly<Record<string, readonly [number, string, string]>> = {
  'entity.parse.failed': [400, 'malformed_json', 'body is not valid JSON'],
  'entity.verify.failed': [400, 'malformed_json', 'body is not valid'],
  'request.aborted': [400, 'aborted', 'request was aborted'],
  'request.size.invalid': [400, 'malformed_request', 'body does not have the announced length'],
  'encoding.unsupported': [415, 'unsupported_encoding', 'content encoding is not supported'],
  'charset.unsupported': [415, 'unsupported_charset', 'charset is not supported; use UTF-8'],
};

const parserType = (thrown: unknown): string =>
  typeof thrown === 'object' && thrown !== null && 'type' in thrown && typeof thrown.type === 'string'
    ? thrown.type
    : '';

/** The problem that a thrown thing is; undefined when it is a failure of ours. */
export const problemOf = (thrown: unknown, maxBodyBytes: number): Problem | undefined => {
  if (thrown instanceof Problem) return thrown;
  if (isAppError(thrown)) {
    const known = STATUS_OF_CODE[thrown.code];
    return known && new Problem(known[0], known[1], thrown.message);
  }
  if (thrown instanceof URIError)
    return new Problem(400, 'malformed_path', 'path is not valid percent-encoding');
  const type = parserType(thrown);
  if (type === 'entity.too.large')
    return new Problem(413, 'body_too_large', `body is larger than the limit of ${maxBodyBytes} bytes`);
  const known = PARSER_PROBLEMS[type];
  if (known !== undefined) return new Problem(...known);
  // Class 22 of SQLSTATE: a value that Postgres cannot hold and that the schemas let through.
  if (foreignCodeOf(thrown)?.startsWith('22') === true && !(thrown instanceof AppError))
    return new Problem(400, 'invalid', 'a value cannot be stored');
  return undefined;
};

const MAX_SHOWN_VALUE = 200;
/** A key or a token may be pasted where an id or a name belongs: these are never shown back. */
const HIDDEN = /(?:^|\.)(?:key|key_id|token|token_id|secret)$/;
const SECRET = /SharedAccess|[A-Za-z0-9+/]{43}=|[tc]_[0-9a-f]{16}\./i;

const shownText = (text: string): string => terminalText(text.slice(0, MAX_SHOWN_VALUE));

const valueAt = (input: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (value, part) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[part] : undefined,
    input,
  );

/** Checks input by its schema. @throws Problem 400 naming each field, its value and its limit */
export const validated = <Schema extends z.ZodType>(
  schema: Schema,
  input: unknown,
  where: 'body' | 'query' | 'path',
): z.output<Schema> => {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const errors = parsed.error.issues.slice(0, 20).map((issue): FieldProblem => {
    // Keys of a record are the client's own words too, in the path and in what zod says of unknown ones.
    const path = shownText([where, ...issue.path.map(String)].join('.'));
    const message = shownText(issue.message.charAt(0).toLowerCase() + issue.message.slice(1));
    const value = valueAt(input, issue.path);
    if (value === undefined || typeof value === 'object' || HIDDEN.test(path)) return { path, message };
    const shown = typeof value === 'string' ? value : JSON.stringify(value);
    if (SECRET.test(shown)) return { path, message };
    return { path, message, value: shownText(shown) };
  });
  const first = errors[0];
  throw new Problem(
    400,
    'invalid',
    first === undefined ? 'invalid' : `${first.path}: ${first.message}`,
    errors,
  );
};
