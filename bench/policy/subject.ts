import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type PolicyInputBase, writeProposals } from '../../src/policy/index.ts';

/** What grows: entitlements kept as data, or rules in Rego. */
export type SizeKind = 'grants' | 'rules';

/** A publish rule and four stream rules to a connection, as lists of many teams have. */
const RULES_PER_CONNECTION = 5;
const FEW_RULES = 10;
const FEW_GRANTS = 100;
const NETWORK = '203.0.113.0/24';

const ruleOf = (id: string, head: string, body: string): string =>
  `# METADATA\n# title: ${id}\n# custom: {id: ${id}, owner: bench@example.com, ticket: none, expires: never}\n${head} contains rego.metadata.rule() if {\n${body}\n}\n`;

const regoOf = (rules: number): string => {
  const parts: string[] = ['package sallyport.allow\n', 'import data.sallyport.request\n'];
  for (let at = 0; at < rules; at += 1) {
    const connection = `c${Math.floor(at / RULES_PER_CONNECTION)}`;
    const place = at % RULES_PER_CONNECTION;
    parts.push(
      place === 0
        ? ruleOf(
            `${connection}-publish`,
            `publish["${connection}"]`,
            `\trequest.target_is("${connection}.example", 5432)\n\tnet.cidr_contains("10.0.0.0/8", input.target.address)`,
          )
        : ruleOf(
            `${connection}-app-${place}`,
            `stream["${connection}"]`,
            `\tinput.key.principal == "app-${place}"\n\trequest.from_any({"${NETWORK}"})`,
          ),
    );
  }
  return parts.join('\n');
};

const grantOf = (at: number): object => ({
  id: `grant-${at}`,
  owner: 'bench@example.com',
  ticket: 'none',
  expires: '2099-12-31',
  target: { host: 'c0.example', port: 5432 },
  sources: [NETWORK],
  limits: { max_seconds: 3_600 },
});

/** Writes a policy directory of a size. */
export const writeSubject = (directory: string, kind: SizeKind, count: number): void => {
  const rego = regoOf(kind === 'rules' ? count : FEW_RULES);
  writeProposals(directory, [
    { connection: 'bench', rego, vectors: '[]\n', rules: 0, rarelySeen: [], removed: [] },
  ]);
  const grants = Array.from({ length: kind === 'grants' ? count : FEW_GRANTS }, (_, at) => at);
  const byPrincipal = Object.fromEntries(grants.map((at) => [`granted-${at}`, [grantOf(at)]]));
  rmSync(join(directory, 'sallyport/grants/data.yaml'));
  writeFileSync(join(directory, 'sallyport/grants/data.json'), JSON.stringify({ c0: byPrincipal }));
};

const party = (principal: string, claim: string): NonNullable<PolicyInputBase['key']> => ({
  ...{ kind: 'sas', id: 'k_bench', principal, auth_rule: 'bench', slot: 'primary', proved_by: 'relay' },
  claims: [claim],
});

/** The input of an open, allowed by another grant or rule each time, spread over all of them. */
export const inputOf = (kind: SizeKind, count: number, number: number): PolicyInputBase => {
  // A step without a common factor visits all before any twice.
  const at = (number * 7_919) % count;
  const rule = at - (at % RULES_PER_CONNECTION === 0 ? -1 : 0);
  const name = kind === 'grants' ? 'c0' : `c${Math.floor(rule / RULES_PER_CONNECTION)}`;
  const principal = kind === 'grants' ? `granted-${at}` : `app-${rule % RULES_PER_CONNECTION}`;
  return {
    v: 1,
    action: 'stream',
    namespace: 'relay.example.com',
    connection: { name, id: 'c_bench', labels: {} },
    target: { host: `${name}.example`, port: 5432, addresses: ['10.1.2.3'] },
    key: party(principal, 'Send'),
    listener: party('defaultListener', 'Listen'),
    source: {
      ...{ gateway: 'gw', gateway_proved: false, address: '203.0.113.9' },
      claimed: { address: '10.0.0.1', port: 5 },
    },
    agent: { name: 'agent', instance: 'i', labels: { site: 'bench' }, version: '0' },
    relay: { node: 'n1' },
    link: { id: 'l', carrier: 'tcp' },
    stream: { id: `s-${number}`, kind: 'tcp', attempt: 1 },
    usage: { principal: { streams: 1 }, connection: { streams: 1 }, agent: { streams: 1 } },
    managed: { require_proof: false },
    time: {
      ...{ unix_ms: 1_800_000_000_000, rfc3339: '2027-01-15T08:00:00Z' },
      local: { date: '2027-01-15', weekday: 'fri', hour: 9, minute: 0, zone: 'Europe/Berlin' },
    },
  };
};
