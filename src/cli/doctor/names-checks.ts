import { lookup } from 'node:dns/promises';
import {
  type GatewayConfig,
  previewNames,
  readHostsFile,
  showNamesBlock,
  systemHostsFile,
} from '../../gateway/index.ts';
import { type Clock, foreignCodeOf, messageOf } from '../../runtime/index.ts';
import { type Check, checkOf } from './line.ts';

const APPLY = 'as root: `sallyport hosts apply -c gateway.yaml`';

/** Whether the names of transparent connections lead applications on this machine to the gateway. */
export const namesChecks = (config: GatewayConfig, clock: Clock): Check[] => {
  if (!config.connections.some(({ transparent }) => transparent === true)) return [];
  const file = systemHostsFile();
  return [
    checkOf('names', file, async (lines) => {
      let hosts: ReturnType<typeof previewNames>;
      try {
        hosts = previewNames(config, readHostsFile(file), clock);
        const { standing } = showNamesBlock(file, config, hosts);
        if (standing === 'applied') lines.pass('it has the block of this gateway');
        else lines.fail(`it has not the block that the configuration asks for (${standing})`, APPLY);
      } catch (thrown) {
        lines.fail(messageOf(thrown), 'docs/transparent-names.md');
        return;
      }
      for (const { names, address } of hosts) {
        for (const name of names) {
          try {
            const { address: found } = await lookup(name, { family: 4 });
            if (found === address) lines.pass(`${name} is ${address} to applications`);
            else
              lines.fail(
                `${name} is ${found} to applications, not ${address}: they reach that without the tunnel`,
                `${APPLY}; if it was: hosts of /etc/nsswitch.conf must have \`files\` before \`dns\`, and a cache (nscd, systemd-resolved) must read it again`,
              );
          } catch (thrown) {
            lines.fail(`${name} does not resolve: ${foreignCodeOf(thrown) ?? messageOf(thrown)}`, APPLY);
          }
        }
      }
    }),
  ];
};
