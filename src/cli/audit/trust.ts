import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import {
  addSigner,
  createAuditRoot,
  loadTrust,
  openAuditKey,
  readAuditPublicKey,
  revokeSigner,
  type TrustedSigner,
  type TrustFile,
} from '../../audit/index.ts';
import { systemClock } from '../../runtime/index.ts';
import { outputOf } from '../output.ts';

interface TrustFlags {
  readonly rootKey: string;
  readonly trust: string;
}

const showTrust = (trust: TrustFile, command: Command): void => {
  const output = outputOf(command);
  output.document(trust);
  output.line(`audit root ${trust.root}, sequence ${trust.sequence}`);
  output.table<TrustedSigner>(trust.signers, [
    { title: 'signer', value: (entry) => entry.signer },
    { title: 'kind', value: (entry) => entry.kind },
    { title: 'name', value: (entry) => entry.name },
    { title: 'added', value: (entry) => entry.added_at },
    { title: 'revoked', value: (entry) => entry.revoked_at },
  ]);
};

/** A process makes its own key; an operator has nobody else to make one. */
const publicKeyOf = (kind: string, file: string): string =>
  kind === 'operator' && !existsSync(file) ? openAuditKey(file).publicKey : readAuditPublicKey(file);

const withRoot = (command: Command): Command =>
  command
    .requiredOption('--root-key <file>', 'private key of the audit root; keep it offline')
    .requiredOption('--trust <file>', 'trust file');

/** `sallyport audit trust …`: connects to nothing. */
export const trustCommand = (audit: Command): void => {
  const trust = audit
    .command('trust')
    .description('say which signers of evidence to believe; connects to nothing');
  withRoot(trust.command('init').description('make the audit root key and an empty trust file')).action(
    (flags: TrustFlags, command: Command) =>
      showTrust(createAuditRoot({ rootKeyFile: flags.rootKey, trustFile: flags.trust }), command),
  );
  withRoot(
    trust
      .command('add')
      .description('vouch for the audit key of a process, of exports or of an operator')
      .requiredOption(
        '--key <file>',
        'its public key: pem (`openssl pkey -in agent-audit.key -pubout`) or 64 hex digits; or the private key file itself',
      )
      .requiredOption(
        '--kind <kind>',
        'agent, relay, exporter for the key of `audit export`, operator for that of `audit retain` (made when there is none)',
      )
      .requiredOption('--name <name>', 'name of the process or operator'),
  ).action((flags: TrustFlags & { key: string; kind: string; name: string }, command: Command) =>
    showTrust(
      addSigner({
        rootKeyFile: flags.rootKey,
        trustFile: flags.trust,
        publicKey: publicKeyOf(flags.kind, flags.key),
        kind: flags.kind,
        name: flags.name,
        clock: systemClock,
      }),
      command,
    ),
  );
  withRoot(
    trust.command('revoke').description('believe a signer no more').argument('<signer>', 'id, s_…'),
  ).action((signer: string, flags: TrustFlags, command: Command) =>
    showTrust(
      revokeSigner({ rootKeyFile: flags.rootKey, trustFile: flags.trust, signer, clock: systemClock }),
      command,
    ),
  );
  trust
    .command('list')
    .description('show a trust file after checking its signature')
    .requiredOption('--trust <file>', 'trust file')
    .action((flags: { trust: string }, command: Command) => showTrust(loadTrust(flags.trust), command));
};
