import { meantText } from '../../runtime/index.ts';
import type { RuleHead } from './catalog.ts';
import type { Diagnostic } from './diagnostic.ts';
import { lintGrantedConnections } from './grants-lints.ts';

const LITERAL_HEAD = /^\w+(?:\.(\w+)|\["([^"]*)"\]|\[`([^`]*)`\])/;

/** The connection that a head names; undefined when it is computed or missing. */
const namedBy = ({ text }: RuleHead): string | undefined => {
  const [, plain, quoted, raw] = LITERAL_HEAD.exec(text) ?? [];
  return plain ?? quoted ?? raw;
};

const WITHOUT: Readonly<Record<Exclude<RuleHead['action'], 'publish'>, string>> = {
  stream: 'no stream to it can open',
  deny: 'there is nothing that this refuses',
  limits: 'there is nothing that this bounds',
};

/** Warnings: rules and grants for a connection that no rule publishes. Where a publish rule computes its name, all may be. */
export const lintConnections = (directory: string, heads: readonly RuleHead[]): Diagnostic[] => {
  const published = new Set<string>();
  for (const head of heads.filter(({ action }) => action === 'publish')) {
    const name = namedBy(head);
    if (name === undefined) return [];
    published.add(name);
  }
  const known = [...published].sort();
  const messageFor = (name: string, so: string): string => {
    const hint = known.length === 0 ? '' : `; ${meantText(name, known)}`;
    return `no publish rule is for connection '${name}', so ${so}${hint}`;
  };
  const isUnknown = (name: string | undefined): name is string =>
    name !== undefined && name !== '*' && !published.has(name);
  const warning = { rule: 'connection', severity: 'warning' } as const;
  const ofRules = heads.flatMap((head) => {
    const name = namedBy(head);
    if (head.action === 'publish' || !isUnknown(name)) return [];
    const { file, line } = head;
    return [{ ...warning, file, line, column: 1, message: messageFor(name, WITHOUT[head.action]) }];
  });
  const ofGrants = lintGrantedConnections(directory, isUnknown, (name) => ({
    ...warning,
    message: messageFor(name, 'no grant of it can let a stream in'),
  }));
  return [...ofRules, ...ofGrants];
};
