import { z } from 'zod';
import type { AuthRuleView, ConnectionView } from '../../control/index.ts';
import { formatHostPort, parseHostPort } from '../../runtime/index.ts';

const CLAIMS = ['Listen', 'Send', 'Manage'] as const;
/** What every connection has from its creation; never created and never removed by a file. */
const BUILT_IN: ReadonlySet<string> = new Set(['defaultListener', 'defaultSender']);
/** What the namespace began with: kept for emergencies, so never removed by a file that does not name it. */
const BUILT_IN_OF_NAMESPACE: ReadonlySet<string> = new Set(['RootManageSharedAccessKey']);
const NAMESPACE = 'namespace';

const isHostPort = (text: string): boolean => {
  try {
    return parseHostPort(text).port > 0;
  } catch {
    return false;
  }
};

const authRuleSchema = z.strictObject({
  name: z.string().min(1).max(128),
  claims: z.array(z.enum(CLAIMS)).min(1),
});

const noneTwice = (items: readonly { readonly name: string }[]): boolean =>
  new Set(items.map(({ name }) => name)).size === items.length;

const connectionSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9-]{1,63}$/, 'lower-case letters, digits and dashes, at most 63'),
  target: z.string().refine(isHostPort, 'HOST:PORT, the port 1 to 65535'),
  labels: z.record(z.string(), z.string()).default({}),
  auth_rules: z.array(authRuleSchema).refine(noneTwice, 'an auth-rule is named twice').default([]),
});

/** What a file for `sallyport apply` says: connections as they are to be, without any key. */
export const declarationSchema = z.strictObject({
  connections: z.array(connectionSchema).refine(noneTwice, 'a connection is named twice'),
  /** Of the namespace; absent: they are not this file's business, and none is ever deleted. */
  auth_rules: z.array(authRuleSchema).refine(noneTwice, 'an auth-rule is named twice').optional(),
});

export type Declaration = z.output<typeof declarationSchema>;
type Declared = Declaration['connections'][number];

/** One call of the management API, and what it says to people. */
export interface Change {
  readonly kind: 'create' | 'update' | 'delete';
  readonly what: 'connection' | 'auth_rule';
  readonly name: string;
  /** `field: before → after` of an update, or what is made. */
  readonly detail: string;
  readonly call: {
    readonly method: 'post' | 'patch' | 'delete';
    readonly path: string;
    readonly body?: object;
    readonly ifMatch?: number;
  };
}

export interface Current {
  readonly connections: readonly ConnectionView[];
  /** Of connections and, with `connection` null, of the namespace. */
  readonly authRules: readonly AuthRuleView[];
}

export interface Plan {
  readonly changes: readonly Change[];
  /** What cannot be done by calls, with the remedy. */
  readonly conflicts: readonly string[];
}

const at = (...parts: readonly string[]): string =>
  parts.map((part) => `/${encodeURIComponent(part)}`).join('');
const textOf = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join(',') || '(none)';
const claimsText = (claims: readonly string[]): string => [...claims].sort().join(', ');

const createConnection = (wanted: Declared): Change => ({
  kind: 'create',
  what: 'connection',
  name: wanted.name,
  detail: `target ${wanted.target}; labels ${textOf(wanted.labels)}`,
  call: {
    method: 'post',
    path: '/connections',
    body: { name: wanted.name, target: parseHostPort(wanted.target), labels: wanted.labels },
  },
});

const updateConnection = (wanted: Declared, is: ConnectionView): Change | undefined => {
  const details: string[] = [];
  const body: Record<string, unknown> = {};
  const target = formatHostPort(is.target);
  if (target !== formatHostPort(parseHostPort(wanted.target))) {
    details.push(`target: ${target} → ${wanted.target}`);
    body['target'] = parseHostPort(wanted.target);
  }
  if (textOf(is.labels) !== textOf(wanted.labels)) {
    details.push(`labels: ${textOf(is.labels)} → ${textOf(wanted.labels)}`);
    body['labels'] = wanted.labels;
  }
  if (details.length === 0) return undefined;
  const call = { method: 'patch', path: `/connections${at(is.name)}`, body, ifMatch: is.version } as const;
  return { kind: 'update', what: 'connection', name: is.name, detail: details.join('; '), call };
};

const createRule = (connection: string, rule: Declared['auth_rules'][number]): Change => ({
  kind: 'create',
  what: 'auth_rule',
  name: `${connection}/${rule.name}`,
  detail: `claims ${claimsText(rule.claims)}`,
  call: {
    method: 'post',
    path: '/auth-rules',
    body: { scope: connection, name: rule.name, claims: rule.claims },
  },
});

const deleteOf = (what: Change['what'], name: string, path: string, detail: string): Change => ({
  kind: 'delete',
  what,
  name,
  detail,
  call: { method: 'delete', path },
});

const NONE: ReadonlySet<string> = new Set();

interface ScopeRules {
  readonly rules: readonly AuthRuleView[];
  /** Names that are there without a call. */
  readonly made: ReadonlySet<string>;
  /** Names that are never deleted. */
  readonly kept: ReadonlySet<string>;
}

const planRules = (
  scope: string,
  wanted: Declared['auth_rules'],
  { rules, made, kept }: ScopeRules,
  prune: boolean,
): Plan => {
  const changes: Change[] = [];
  const conflicts: string[] = [];
  for (const rule of wanted) {
    const there = rules.find(({ name }) => name === rule.name);
    if (there === undefined && !made.has(rule.name)) {
      changes.push(createRule(scope, rule));
    } else if (there !== undefined && claimsText(there.claims) !== claimsText(rule.claims)) {
      conflicts.push(
        `auth-rule ${scope}/${rule.name} has claims ${claimsText(there.claims)}, the file says ${claimsText(rule.claims)}: ` +
          'claims never change; give it another name, or delete it first',
      );
    }
  }
  if (!prune) return { changes, conflicts };
  for (const { name } of rules) {
    if (kept.has(name) || wanted.some((rule) => rule.name === name)) continue;
    changes.push(
      deleteOf('auth_rule', `${scope}/${name}`, `/auth-rules${at(scope, name)}`, 'its keys are revoked'),
    );
  }
  return { changes, conflicts };
};

/**
 * What has to be done so that the namespace is as declared. Without `prune` nothing is deleted; with it, connections
 * and auth-rules that the file does not name are, which revokes their keys.
 */
export const planOf = (declared: Declaration, current: Current, prune: boolean): Plan => {
  const changes: Change[] = [];
  const conflicts: string[] = [];
  const rulesOf = (connection: string | null): readonly AuthRuleView[] =>
    current.authRules.filter((rule) => rule.connection === connection);
  for (const wanted of declared.connections) {
    const is = current.connections.find(({ name }) => name === wanted.name);
    const change = is === undefined ? createConnection(wanted) : updateConnection(wanted, is);
    if (change !== undefined) changes.push(change);
    const rules = is === undefined ? [] : rulesOf(wanted.name);
    // A new connection gets its built-in rules by itself.
    const made = is === undefined ? BUILT_IN : NONE;
    const part = planRules(wanted.name, wanted.auth_rules, { rules, made, kept: BUILT_IN }, prune);
    changes.push(...part.changes);
    conflicts.push(...part.conflicts);
  }
  if (declared.auth_rules !== undefined) {
    const is = { rules: rulesOf(null), made: NONE, kept: BUILT_IN_OF_NAMESPACE };
    const part = planRules(NAMESPACE, declared.auth_rules, is, prune);
    changes.push(...part.changes);
    conflicts.push(...part.conflicts);
  }
  if (prune) {
    for (const { name } of current.connections) {
      if (declared.connections.some((wanted) => wanted.name === name)) continue;
      const path = `/connections${at(name)}`;
      changes.push(deleteOf('connection', name, path, 'its keys are revoked, its streams end'));
    }
  }
  return { changes, conflicts };
};
