import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import { messageOf, schemaProblems } from '../../runtime/index.ts';
import { isNetwork } from '../address.ts';
import { type Grants, grantsSchema, MAX_YAML_BYTES, readGrants } from '../bundle/grants.ts';
import type { RuleHead } from './catalog.ts';
import type { Diagnostic } from './diagnostic.ts';
import { isExpiry } from './lints.ts';
import { placeOf, yamlFindings } from './vectors.ts';

/** What OPA would load as `data.sallyport.grants`. */
const GRANTS_FILES = [
  'sallyport/grants/data.yaml',
  'sallyport/grants/data.yml',
  'sallyport/grants/data.json',
];

interface Finding {
  readonly path: readonly PropertyKey[];
  readonly rule: string;
  readonly message: string;
}

/** Paths are the ones of the schema; the sentence says which grant. */
const shapeFindings = (value: unknown): Finding[] => {
  const parsed = grantsSchema.safeParse(value ?? {});
  if (parsed.success) return [];
  return schemaProblems(parsed.error.issues, grantsSchema).map(({ path, message }) => ({
    path,
    rule: 'grants',
    message: `grant ${path.join('.')}: ${message}`,
  }));
};

/** What the shape does not say: forms of `expires`, networks, and ids that are used once. */
const contentFindings = (grants: Grants, heads: readonly RuleHead[]): Finding[] => {
  const first = new Map<string, string>();
  for (const { custom, file, line } of heads) {
    if (typeof custom?.['id'] === 'string') first.set(custom['id'], `${file}:${String(line)}`);
  }
  const found: Finding[] = [];
  for (const [connection, principals] of Object.entries(grants)) {
    for (const [principal, list] of Object.entries(principals)) {
      for (const [index, { id, expires, sources = [] }] of list.entries()) {
        const path = [connection, principal, index];
        const before = first.get(id);
        if (before !== undefined) {
          found.push({
            path: [...path, 'id'],
            rule: 'grant-id',
            message: `id '${id}' is already used by ${before}`,
          });
        }
        first.set(id, `the grant ${path.join('.')}`);
        if (!isExpiry(expires)) {
          const message = `expires ${JSON.stringify(expires)} is neither a date, a utc second nor 'never': the grant is never live`;
          found.push({ path: [...path, 'expires'], rule: 'grant-expiry', message });
        }
        for (const [at, source] of sources.entries()) {
          if (isNetwork(source)) continue;
          const message = `source '${source}' is no network; write an address and its length, as 203.0.113.0/24`;
          found.push({ path: [...path, 'sources', at], rule: 'grant-source', message });
        }
      }
    }
  }
  return found;
};

const lintFile = (directory: string, file: string, heads: readonly RuleHead[]): Diagnostic[] => {
  const content = readFileSync(join(directory, file));
  let grants: Grants | undefined;
  let refusal = '';
  try {
    grants = JSON.parse(readGrants(content)) as Grants;
  } catch (thrown) {
    refusal = messageOf(thrown);
  }
  const findings = grants === undefined ? [] : contentFindings(grants, heads);
  if (grants !== undefined && findings.length === 0) return [];
  const text = content.toString('utf8');
  // Only what is wrong has to be found in the text, and only where that does not take for ever.
  if (text.length > MAX_YAML_BYTES) {
    const all = grants === undefined ? [{ rule: 'grants', message: refusal }] : findings;
    return all.map(({ rule, message }) => ({ file, line: 1, column: 1, rule, message }));
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  if (document.errors.length > 0) return yamlFindings(document, file, 'grants');
  let shape: Finding[] = [];
  if (grants === undefined) {
    try {
      shape = shapeFindings(document.toJS({ maxAliasCount: 0 }));
    } catch {
      shape = [];
    }
    if (shape.length === 0) shape = [{ path: [], rule: 'grants', message: refusal }];
  }
  return [...shape, ...findings].map(({ path, rule, message }) => ({
    file,
    ...placeOf(document, lines, path),
    rule,
    message,
  }));
};

/** What is wrong with the grants of a policy directory, each at its place. */
export const lintGrants = (directory: string, heads: readonly RuleHead[]): Diagnostic[] =>
  GRANTS_FILES.filter((file) => existsSync(join(directory, file))).flatMap((file) =>
    lintFile(directory, file, heads),
  );

/** Each connection of grants that are in order, where `wanted`, at its place; other grants are lintGrants' to report. */
export const lintGrantedConnections = (
  directory: string,
  wanted: (connection: string) => boolean,
  finding: (connection: string) => Pick<Diagnostic, 'rule' | 'message' | 'severity'>,
): Diagnostic[] =>
  GRANTS_FILES.filter((file) => existsSync(join(directory, file))).flatMap((file) => {
    const content = readFileSync(join(directory, file));
    let connections: string[];
    try {
      connections = Object.keys(JSON.parse(readGrants(content)) as Grants).filter(wanted);
    } catch {
      return [];
    }
    if (connections.length === 0) return [];
    const text = content.toString('utf8');
    const lines = new LineCounter();
    const document = text.length > MAX_YAML_BYTES ? undefined : parseDocument(text, { lineCounter: lines });
    return connections.map((connection) => {
      const place = document === undefined ? { line: 1, column: 1 } : placeOf(document, lines, [connection]);
      return { file, ...place, ...finding(connection) };
    });
  });
