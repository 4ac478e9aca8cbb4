import { resolve } from 'node:path';
import type { Command } from 'commander';
import { writePolicySkeleton } from '../../policy/index.ts';
import { collect, parsePublications } from '../deploy/publication.ts';
import { outputOf } from '../output.ts';
import { programName } from '../up/screen.ts';

interface NewFlags {
  readonly publish?: readonly string[];
}

/** What the allow-list is about when nothing is said. */
const EXAMPLE = ['orders-db=sql01.corp.example:1433'];

const create = (path: string, flags: NewFlags, command: Command): void => {
  const output = outputOf(command);
  const directory = resolve(path);
  const connections = parsePublications(flags.publish ?? EXAMPLE);
  writePolicySkeleton(directory, connections);
  output.document({ directory, connections: connections.map(({ name }) => name) });
  const program = programName();
  output.line(`${directory}: a policy directory; its README.md says what to edit first. Then:`);
  for (const verb of ['check', 'test']) output.line(`  ${program} policy ${verb} ${path}`);
  output.line(`  ${program} policy build ${path} -o bundle.tar.gz`);
};

export const newCommand = (policy: Command): void => {
  policy
    .command('new')
    .description(
      'write a policy directory with an allow-list, its tests, vectors, grants and a ci recipe; connects to nothing',
    )
    .argument('<dir>', 'directory to write; nothing in it is overwritten')
    .option(
      '--publish <name=host:port>',
      `a connection and its target (repeatable; default: ${EXAMPLE.join()})`,
      collect,
    )
    .action(create);
};
