"""The directives that the project has promised to know, as data, by what was promised for them."""

MUST = """
client tls-client tls-server pull server server-ipv6 mode dev dev-type topology proto port lport
rport local remote connection remote-random resolv-retry connect-retry connect-retry-max
connect-timeout server-poll-timeout nobind bind float ca capath cert key pkcs12 extra-certs dh
askpass tls-version-min tls-version-max tls-cipher tls-ciphersuites tls-cert-profile
remote-cert-tls remote-cert-ku remote-cert-eku verify-x509-name x509-username-field
peer-fingerprint verify-client-cert crl-verify tls-auth key-direction auth tls-crypt tls-crypt-v2
tls-crypt-v2-max-age data-ciphers data-ciphers-fallback cipher force-tls-key-material-export
replay-window tls-timeout hand-window tran-window reneg-sec reneg-bytes reneg-pkts max-packet-size
auth-user-pass auth-retry auth-nocache static-challenge auth-token auth-token-user
auth-user-pass-optional username-as-common-name auth-gen-token auth-gen-token-secret
client-config-dir ccd-exclusive setenv setenv-safe push push-reset push-remove pull-filter ifconfig
ifconfig-ipv6 ifconfig-pool ifconfig-ipv6-pool ifconfig-pool-persist ifconfig-push
ifconfig-ipv6-push iroute iroute-ipv6 disable duplicate-cn max-clients connect-freq
connect-freq-initial client-to-client route route-ipv6 route-gateway route-metric route-nopull
route-noexec redirect-gateway redirect-private block-ipv6 dhcp-option dns tun-mtu tun-mtu-max
mssfix keepalive ping ping-restart ping-exit ping-timer-rem inactive session-timeout
explicit-exit-notify push-peer-info config ignore-unknown-option persist-tun status status-version
verb mute log log-append management management-client-auth management-hold
management-query-passwords max-routes-per-client override-username
""".split()

# Points where OpenVPN runs programs: hooks in code, never in a file.
HOOKS = """
up down route-up client-connect client-disconnect client-crresponse learn-address tls-verify
tls-crypt-v2-verify auth-user-pass-verify
""".split()

ACCEPTED = """
persist-key persist-local-ip persist-remote-ip tun-ipv6 user group chroot daemon nice mlock
writepid syslog sndbuf rcvbuf mark bind-dev multihome socket-flags tcp-nodelay txqueuelen fast-io
comp-noadapt compress migrate allow-compression comp-lzo disable-occ disable-dco
mute-replay-warnings ecdh-curve tls-groups tls-exit single-session preresolve remap-usr1
machine-readable-output suppress-timestamps block-outside-dns register-dns ip-win32 route-method
tap-sleep windows-driver dhcp-renew key-method ncp-ciphers ns-cert-type bcast-buffers
tcp-queue-limit hash-size stale-routes-check compat-mode passtos mtu-disc script-security shaper
route-delay tun-mtu-extra
""".split()

REFUSED = """
secret server-bridge vlan-tagging vlan-accept vlan-pvid fragment link-mtu no-replay
ifconfig-pool-linear pkcs11-providers pkcs11-id pkcs11-id-management pkcs11-pin-cache
pkcs11-cert-private pkcs11-protected-authentication pkcs11-private-mode cryptoapicert plugin
port-share http-proxy http-proxy-option socks-proxy http-proxy-user-pass management-external-key
management-query-proxy verify-hash
""".split()
