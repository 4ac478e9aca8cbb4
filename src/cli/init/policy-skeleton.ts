import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Publication } from '../deploy/publication.ts';
import { packageRoot } from '../version.ts';

/** What belongs to our own build and not to an author's directory. */
const LEFT_OUT = [/[/\\]dist([/\\]|$)/, /[/\\]allow[/\\]development\.rego$/];

const PLAIN_NAME = /^[a-z][a-z0-9]*$/;
/** Words of Rego that may not follow a dot. */
const KEYWORDS: ReadonlySet<string> = new Set(
  'as contains default else every false if import in not null package some true with'.split(' '),
);

/** A name as `opa fmt` writes it behind a rule's name. */
const reference = (name: string): string =>
  PLAIN_NAME.test(name) && !KEYWORDS.has(name) ? `.${name}` : `["${name}"]`;

const rulesOf = ({ name, target }: Publication): string => `# Who may reach ${name}.
package sallyport.allow

import data.sallyport.request

# METADATA
# title: The agent may publish ${target.host}:${target.port} as ${name}
# custom: {id: ${name}-publish, owner: change-me@example.com, ticket: none, expires: never}
publish${reference(name)} contains rego.metadata.rule() if {
	request.target_is("${target.host}", ${target.port})
}

# METADATA
# title: Applications with the connection's own Send key
# custom: {id: ${name}-stream, owner: change-me@example.com, ticket: none, expires: never}
stream${reference(name)} contains rego.metadata.rule() if {
	input.key.principal == "defaultSender"
}
`;

/** Writes a policy directory: the library as shipped, and one allow-list for each connection. */
export const writePolicySkeleton = (directory: string, publications: readonly Publication[]): void => {
  cpSync(fileURLToPath(new URL('policies', packageRoot)), directory, {
    recursive: true,
    filter: (source) => !LEFT_OUT.some((pattern) => pattern.test(source)),
  });
  for (const publication of publications) {
    const file = join(directory, 'sallyport', 'allow', `${publication.name.replaceAll('-', '_')}.rego`);
    writeFileSync(file, rulesOf(publication));
  }
};
