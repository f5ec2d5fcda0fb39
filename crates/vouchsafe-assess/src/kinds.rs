//! Every kind of finding that there is. `docs/reference/findings.md` lists them, and a test compares.

use crate::finding::{Area, Pillar, Severity};

/// A kind of finding.
#[derive(Debug)]
pub struct Kind {
    /// Stable id.
    pub id: &'static str,
    /// How bad it mostly is; a finding may be better or worse.
    pub severity: Severity,
    /// Where it is looked for.
    pub area: Area,
    /// The pillars that it holds back.
    pub pillars: &'static [Pillar],
    /// What it is.
    pub title: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $id:literal, $severity:ident, $area:ident, [$($pillar:ident),*], $title:literal, $remedy:literal;)*) => {
        $(pub(crate) static $name: Kind = Kind {
            id: $id,
            severity: Severity::$severity,
            area: Area::$area,
            pillars: &[$(Pillar::$pillar),*],
            title: $title,
            remedy: $remedy,
        };)*

        static ALL: &[&Kind] = &[$(&$name),*];
    };
}

/// Every kind of finding.
#[must_use]
pub fn catalogue() -> &'static [&'static Kind] {
    ALL
}

kinds! {
    LISTEN_EVERYBODY = "listen-everybody", Medium, Listening, [Networks],
        "A service listens to everybody",
        "Let it listen on loopback or one network only, or let the firewall name who may come; then reach it through vouchsafe.";
    LISTEN_DATA_STORE = "listen-data-store", High, Listening, [Networks, Data],
        "A data store listens beyond this host",
        "Bind it to loopback, and let people reach it through vouchsafe, where each of them is somebody.";
    LISTEN_CLEARTEXT = "listen-cleartext", High, Listening, [Networks],
        "A protocol without encryption listens beyond this host",
        "Switch it off, or put it behind TLS, SSH or vouchsafe.";
    LISTEN_MANAGEMENT = "listen-management", High, Listening, [Networks, Applications],
        "A management port listens beyond this host",
        "Bind it to loopback or to the network of its peers, with client certificates.";
    SSH_PASSWORD_LOGIN = "ssh-password-login", High, Ssh, [Identity],
        "sshd takes passwords",
        "Set `PasswordAuthentication no` and `KbdInteractiveAuthentication no` once everybody has a key; or demand two steps with `AuthenticationMethods publickey,keyboard-interactive`.";
    SSH_ROOT_LOGIN = "ssh-root-login", Medium, Ssh, [Identity],
        "root may sign in over SSH",
        "Set `PermitRootLogin no`, and let people become root by sudo, under their own name.";
    SSH_EMPTY_PASSWORDS = "ssh-empty-passwords", Critical, Ssh, [Identity],
        "sshd takes empty passwords",
        "Set `PermitEmptyPasswords no`.";
    SSH_WEAK_ALGORITHMS = "ssh-weak-algorithms", Medium, Ssh, [Networks],
        "sshd offers outdated cryptography",
        "Take the named algorithms out, or leave the line out: the defaults of OpenSSH are good.";
    SSH_FORWARDING = "ssh-forwarding", Low, Ssh, [Networks],
        "SSH accounts may open tunnels into the network",
        "Set `DisableForwarding yes`, and allow it with `Match` where it is needed; `PermitOpen` names the targets.";
    SSH_GATEWAY_PORTS = "ssh-gateway-ports", Medium, Ssh, [Networks],
        "Tunnels of SSH accounts may listen to everybody",
        "Set `GatewayPorts no`.";
    SSH_HOST_BASED = "ssh-host-based", High, Ssh, [Identity, Devices],
        "sshd trusts what other hosts say about their users",
        "Set `HostbasedAuthentication no`.";
    SSH_USER_ENVIRONMENT = "ssh-user-environment", Medium, Ssh, [Applications],
        "Users set the environment that sshd gives their programs",
        "Set `PermitUserEnvironment no`.";
    SSH_NO_STRICT_MODES = "ssh-no-strict-modes", Medium, Ssh, [Identity],
        "sshd does not look who may write authorised keys",
        "Set `StrictModes yes`.";
    SSH_QUIET_LOG = "ssh-quiet-log", Low, Ssh, [Visibility],
        "sshd logs too little to tell who came",
        "Set `LogLevel INFO` or `VERBOSE`; the latter names the key of each sign-in.";
    SSH_EVERY_ACCOUNT = "ssh-every-account", Low, Ssh, [Identity],
        "Every account may sign in over SSH",
        "Name who may with `AllowGroups`.";
    SSH_KEY_WEAK = "ssh-key-weak", High, Ssh, [Identity],
        "An authorised key can be broken or will soon be",
        "Replace it by an Ed25519 key, best one in hardware (`ssh-keygen -t ed25519-sk`).";
    SSH_KEY_SHARED = "ssh-key-shared", Medium, Ssh, [Identity, Governance],
        "One key opens several accounts",
        "Give each person one account and one key each, so that the log says who it was.";
    SSH_KEY_OF_ROOT = "ssh-key-of-root", Medium, Ssh, [Identity],
        "Keys open root directly",
        "Move them to the accounts of their people; keys of programs get `restrict`, `from=` and `command=`.";
    SSH_KEYS_WRITABLE = "ssh-keys-writable", High, Ssh, [Identity],
        "Others may write an account's authorised keys",
        "Let the account itself own the file and its folders, without write permission for others: `chmod go-w`.";
    SSH_HOST_KEY_READABLE = "ssh-host-key-readable", Critical, Ssh, [Identity, Networks],
        "Others may read this host's private key",
        "`chmod 600` it, then make new host keys: the old ones may be copied.";
    SSH_HOST_KEY_WEAK = "ssh-host-key-weak", Medium, Ssh, [Networks],
        "A host key is weak",
        "Make a new one: `ssh-keygen -t ed25519`.";
    PG_TRUST = "pg-trust", High, Postgres, [Identity, Data],
        "PostgreSQL asks some connections for no proof at all",
        "Use `scram-sha-256`, a client certificate (`cert`), or `peer` on the local socket.";
    PG_CLEARTEXT_PASSWORD = "pg-cleartext-password", High, Postgres, [Identity, Networks],
        "PostgreSQL asks for passwords in the clear",
        "Use `scram-sha-256`, and `hostssl` in place of `host`.";
    PG_MD5 = "pg-md5", Medium, Postgres, [Identity],
        "PostgreSQL takes MD5 passwords",
        "Set `password_encryption = scram-sha-256`, let people set their passwords anew, then write `scram-sha-256` in place of `md5`.";
    PG_IDENT_NETWORK = "pg-ident-network", High, Postgres, [Identity],
        "PostgreSQL believes what other machines say about their users",
        "Use `scram-sha-256` or `cert`.";
    PG_EVERYWHERE = "pg-everywhere", Medium, Postgres, [Networks, Data],
        "A rule of PostgreSQL takes connections from anywhere",
        "Name the networks that need it, or let it take connections from vouchsafe's address only.";
    PG_NO_TLS = "pg-no-tls", Medium, Postgres, [Networks],
        "A rule of PostgreSQL takes connections without TLS",
        "Write `hostssl` in place of `host`.";
    PG_TLS_OFF = "pg-tls-off", Medium, Postgres, [Networks],
        "PostgreSQL listens beyond this host, and TLS is off",
        "Set `ssl = on` with a certificate.";
    PG_OLD_TLS = "pg-old-tls", Medium, Postgres, [Networks],
        "PostgreSQL takes outdated TLS",
        "Set `ssl_min_protocol_version = 'TLSv1.2'` or newer.";
    PG_EVERY_DATABASE = "pg-every-database", Low, Postgres, [Data],
        "A rule lets every role into every database",
        "Name databases and roles, a line for each.";
    PG_DEAD_RULE = "pg-dead-rule", Info, Postgres, [Governance],
        "A rule can never apply",
        "Take it out, or put it above the one that covers it.";
    PG_ANY_USER_MAP = "pg-any-user-map", Medium, Postgres, [Identity],
        "A map lets any user of the system be any role",
        "Write one line for each user and role.";
    PG_SUPERUSER = "pg-superuser", Medium, Postgres, [Data, Identity],
        "A role that can sign in is superuser",
        "Give it the rights it needs, and `NOSUPERUSER`.";
    PG_ROLE_MD5 = "pg-role-md5", Medium, Postgres, [Identity],
        "A role's password is kept as MD5",
        "Set it anew with `password_encryption = scram-sha-256`.";
    PG_NO_CONNECTION_LOG = "pg-no-connection-log", Low, Postgres, [Visibility],
        "PostgreSQL does not log who connects",
        "Set `log_connections = on` and `log_disconnections = on`.";
    WEB_CLEARTEXT = "web-cleartext", Medium, Listening, [Networks],
        "A site answers without TLS",
        "Redirect it to HTTPS, or bind it to loopback and reach it through vouchsafe.";
    WEB_OLD_TLS = "web-old-tls", High, Listening, [Networks],
        "A site takes outdated TLS",
        "Allow TLS 1.2 and 1.3 only.";
    WEB_NO_SIGN_IN = "web-no-sign-in", Low, Listening, [Applications, Identity],
        "The proxy asks nobody who they are",
        "If the application doesn't either, put it behind vouchsafe; if it does, that adds the device and the policy.";
    WEB_LISTING = "web-listing", Low, Listening, [Data, Applications],
        "A site lists the files of folders",
        "Switch `autoindex` or `Options Indexes` off.";
    WEB_STATUS_OPEN = "web-status-open", Medium, Listening, [Applications, Visibility],
        "A status page is open",
        "Allow it for loopback only.";
    WEB_UPSTREAM_CLEARTEXT = "web-upstream-cleartext", Medium, Listening, [Networks],
        "A proxy passes requests on in the clear, over the network",
        "Use `https://` to the application, or move it to this host.";
    WEB_UPSTREAM_UNVERIFIED = "web-upstream-unverified", Low, Listening, [Networks],
        "A proxy does not check the certificate of the application behind it",
        "Name the authority and switch verification on.";
    WEB_NO_LOG = "web-no-log", Low, Listening, [Visibility],
        "A site keeps no access log",
        "Keep one: nobody can tell later what was reached.";
    PROXY_STATS_OPEN = "proxy-stats-open", High, Haproxy, [Applications, Identity],
        "HAProxy's statistics page is open, or can be changed there",
        "Bind it to loopback, ask for a password, and leave `stats admin` out.";
    FIREWALL_NONE = "firewall-none", Medium, Firewall, [Networks],
        "No firewall rules were found",
        "Write rules that drop what isn't named: `/etc/nftables.conf` with `policy drop`, enabled at boot.";
    FIREWALL_ACCEPTS = "firewall-accepts", Medium, Firewall, [Networks],
        "The firewall lets in what it does not name",
        "Set the policy of the input chain to drop, after naming what must stay open.";
    ACCOUNT_SECOND_ROOT = "account-second-root", Critical, Accounts, [Identity],
        "Another account is root by its number",
        "Give it a number of its own, and sudo where it needs it.";
    ACCOUNT_EMPTY_PASSWORD = "account-empty-password", Critical, Accounts, [Identity],
        "An account has an empty password",
        "Lock it: `passwd -l NAME`, or set a password.";
    ACCOUNT_WEAK_HASH = "account-weak-hash", High, Accounts, [Identity],
        "A password is kept under an outdated hash",
        "Let its owner set it anew; the default of today (yescrypt) is good.";
    ACCOUNT_OLD_PASSWORD = "account-old-password", Low, Accounts, [Identity],
        "A password was not changed for years",
        "Replace passwords by keys or passkeys; change those that stay when somebody leaves.";
    ACCOUNT_SAME_NUMBER = "account-same-number", Low, Accounts, [Identity, Visibility],
        "Two accounts are one to the system",
        "Give each a number of its own, so that logs tell them apart.";
    ACCOUNT_AS_ROOT = "account-as-root", High, Accounts, [Identity],
        "Members of a group are root in all but name",
        "Take people out who don't need it; use rootless containers.";
    SUDO_NO_AUTHENTICATION = "sudo-no-authentication", Critical, Sudo, [Identity],
        "sudo asks for nothing at all",
        "Take `!authenticate` out.";
    SUDO_NO_PASSWORD = "sudo-no-password", High, Sudo, [Identity],
        "An account becomes root without a password",
        "Take `NOPASSWD` out, or name the commands that need it.";
    SUDO_NO_PASSWORD_COMMAND = "sudo-no-password-command", Low, Sudo, [Identity],
        "Commands run as another user without a password",
        "Check that none of them opens a shell or an editor, and that only root may write them.";
    SUDO_WILDCARD = "sudo-wildcard", Medium, Sudo, [Identity],
        "A sudo rule has a wildcard that can be abused",
        "Write out each command; `*` also stands for spaces and further arguments.";
    SUDO_EVERYTHING = "sudo-everything", Info, Sudo, [Identity],
        "An account may do everything as root",
        "Name the commands where the task is known; right for a few administrators.";
    SUDO_WRITABLE = "sudo-writable", Critical, Sudo, [Identity],
        "Others may change the rules of sudo",
        "`chown root:root` and `chmod 440` the file.";
    CERT_EXPIRED = "cert-expired", High, Certificates, [Networks],
        "A certificate has expired",
        "Renew it, by a client of ACME best.";
    CERT_ENDS_SOON = "cert-ends-soon", Medium, Certificates, [Networks, Automation],
        "A certificate ends soon",
        "Renew it, and let a program do so from now on.";
    CERT_WEAK = "cert-weak", High, Certificates, [Networks],
        "A certificate rests on weak cryptography",
        "Make a new key (ECDSA P-256, or RSA of 3072 bits) and a new certificate.";
    CERT_SELF_SIGNED = "cert-self-signed", Low, Certificates, [Networks],
        "A certificate vouches for itself",
        "Use one of an authority that clients know; else people learn to pass warnings.";
    CERT_WRONG_NAME = "cert-wrong-name", Medium, Certificates, [Networks],
        "A certificate does not have the name of its site",
        "Ask for one with the site's names.";
    CERT_KEY_READABLE = "cert-key-readable", Critical, Certificates, [Networks],
        "Others may read the private key of a certificate",
        "`chmod 600` it, and renew the certificate with a new key: the old one may be copied.";
    CONTAINER_SOCKET_OPEN = "container-socket-open", Critical, Containers, [Identity, Applications],
        "Every process may command the container engine",
        "`chmod 660` the socket, or use a rootless engine: who commands it is root.";
    CONTAINER_SOCKET_GROUP = "container-socket-group", High, Containers, [Identity, Applications],
        "A group commands the container engine, which makes its members root",
        "Empty the group, and let programs use a rootless engine.";
    CONTAINER_TCP_OPEN = "container-tcp-open", Critical, Containers, [Networks, Applications],
        "The container engine takes commands from the network",
        "Take the `tcp://` host out, or demand client certificates with `tlsverify`.";
    UPDATES_NOT_AUTOMATIC = "updates-not-automatic", Medium, Updates, [Devices, Automation],
        "Security updates are not installed by themselves",
        "Install `unattended-upgrades` and set `APT::Periodic::Unattended-Upgrade \"1\";`.";
    UPDATES_OLD = "updates-old", Medium, Updates, [Devices],
        "Lists of packages were not fetched for long",
        "Run `apt-get update`, and see why it does not run by itself.";
    KERNEL_OLD_RUNNING = "kernel-old-running", Medium, Updates, [Devices],
        "The running kernel is older than the installed one",
        "Restart the machine.";
    SYSTEM_END_OF_LIFE = "system-end-of-life", High, Updates, [Devices],
        "The system gets no more security updates",
        "Upgrade to a release that does.";
}
