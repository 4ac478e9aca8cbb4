import { resolve } from 'node:path';
import type { Command } from 'commander';
import { policyExamples, writePolicyExample, writePolicySkeleton } from '../../policy/index.ts';
import { AppError } from '../../runtime/index.ts';
import { collect, parsePublications } from '../deploy/publication.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import { signingStep } from './next-steps.ts';
import { programName } from '../up/screen.ts';

interface NewFlags {
  readonly publish?: readonly string[];
  readonly example?: string;
}

/** What the allow-list is about when nothing is said. */
const DEFAULT = ['orders-db=sql01.corp.example:1433'];

const create = (path: string, flags: NewFlags, command: Command): void => {
  const output = outputOf(command);
  const directory = resolve(path);
  if (flags.example !== undefined) {
    if (flags.publish !== undefined) {
      throw new AppError<CliErrorCode>('ERR_CLI_USAGE', 'give --publish or --example, not both');
    }
    writePolicyExample(directory, flags.example);
    output.document({ directory, example: flags.example });
  } else {
    const connections = parsePublications(flags.publish ?? DEFAULT);
    writePolicySkeleton(directory, connections);
    output.document({ directory, connections: connections.map(({ name }) => name) });
  }
  const program = programName();
  output.line(`${directory}: a policy directory; its README.md says what to edit first. Then:`);
  for (const verb of ['check', 'test']) output.line(`  ${program} policy ${verb} ${path}`);
  output.line(`  ${program} policy build ${path} -o next.tar.gz --after bundle.tar.gz`);
  output.line(signingStep('next.tar.gz', 'bundle.tar.gz'));
  output.note('bundle.tar.gz is the bundle that agents run; without one yet, leave --after out');
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
      `a connection and its target (repeatable; default: ${DEFAULT.join()})`,
      collect,
    )
    .option('--example <name>', `start from an allow-list that others use: ${policyExamples().join(', ')}`)
    .action(create);
};
