import type { Command } from 'commander';

/** `agent test HOST:PORT`. */
export const agentTestCommand = (agent: Command): void => {
  agent
    .command('test <host:port>')
    .summary('what would become of a target here, before it is published')
    .description(
      'Does on this machine what the agent would: resolves the name as it does, asks guard and managed settings about each ' +
        'address, connects, and says who answers and what to look at when nobody does. With --connection it also asks the ' +
        'bundle whether that connection could be published with this target, and streams by --principal be opened. ' +
        'Sends at most a greeting that changes nothing. Records nothing: it is no stream. Connects to: the target. ' +
        'Exits 0 when a stream could go there, 1 when something forbids it, 3 when nobody answers.',
    )
    .option('-c, --config <file>', 'agent.yaml')
    .option('--connection <name>', 'ask policy about this connection')
    .option(
      '--principal <name>',
      'with --connection: ask for streams of this auth-rule too; again for more',
      (value: string, before: readonly string[]) => [...before, value],
      [],
    )
    .action(async (text: string, _options: unknown, command: Command) => {
      const { testTarget } = await import('../doctor/agent-test.ts');
      await testTarget(text, command);
    });
};
