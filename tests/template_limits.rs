//! Hostile templates: each ends in an error, soon, and within little memory.
//!
//! A binary of its own, because the peak memory of the process is what is measured.

use std::time::{Duration, Instant};

use postrider::message::content::MessageContent;
use postrider::message::payload::DeliveryPayload;
use postrider::message::template::Compiled;

/// Peak resident memory of this process in bytes (Linux).
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<usize>().expect("a number") * 1024
}

/// Compiles and fills, as a submission would: `Err` says why not.
fn try_out(template: &str, vars: &serde_json::Value) -> Result<(), String> {
    let content = MessageContent {
        from: "a@shop.example".into(),
        // Reads one more name, so that the check fills the body for real.
        text: Some(format!("{template}{{% if no_such_name is defined %}}{{% endif %}}")),
        ..MessageContent::default()
    };
    let compiled = Compiled::compile(&content).map_err(|error| error.to_string())?;
    let json = serde_json::json!({ "vars": vars }).to_string();
    let payload = DeliveryPayload::read(Some(&json)).map_err(|error| error.to_string())?;
    compiled.check(&payload, false).map_err(|error| error.to_string())
}

#[test]
fn hostile_templates_cost_little() {
    let double = |start: &str, step: &str| format!("{start}{}{{{{ a }}}}", step.repeat(60));
    let numbered = |count: usize, start: &str, end: &str| {
        let one = |n: usize| [start, &n.to_string(), end].concat();
        (0..count).map(one).collect::<String>()
    };
    let many_sets = numbered(20_000, "{% set a", " = big|upper %}");
    let nested_loops =
        format!("{}x{}", "{% for i in range(1000) %}".repeat(20), "{% endfor %}".repeat(20));
    let quadratic = "{% for i in range(100000) %}{{ big|replace('x', 'y')|length }}{% endfor %}";
    let literal = format!("{{% set a = [{}] %}}{{{{ a }}}}", "big,".repeat(150));
    let deep_list = double("{% set a = [big] %}", "{% set a = [a, a] %}");
    let deep_map = double("{% set a = {'b': big} %}", "{% set a = {'b': a, 'c': a} %}");
    let json_bomb = format!("{{{{ big{} }}}}", "|tojson".repeat(100));
    let chains = format!("{{{{ {} }}}}", vec!["big"; 150].join(" ~ "));
    let slices = numbered(90, "{% set a", " = big[0:] %}");
    let templates = [
        "{{ '%0900000000d'|format(1) }}".to_owned(),
        "{{ '%*d'|format(900000000, 1) }}".to_owned(),
        "{{ '%.900000000f'|format(1.0) }}".to_owned(),
        "{{ 'a' * 100000000 }}".to_owned(),
        "{{ 100000000 * 'a' }}".to_owned(),
        "{{ ('a' * 10000) * 10000 }}".to_owned(),
        "{{ 'a'|upper * 100000000 }}".to_owned(),
        "{{ [1] * 100000000 }}".to_owned(),
        "{{ big * 100000 }}".to_owned(),
        double("{% set a = big %}", "{% set a = a ~ a %}"),
        double("{% set a = big %}", "{% set a = a + a %}"),
        double("{% set a = list %}", "{% set a = a + a %}"),
        double("{% set a = big %}", "{% set a = [a, a]|join %}"),
        double("{% set a = big %}", "{% set a = a|replace('x', 'xx') %}"),
        double("{% set a = big %}", "{% set a = '%s%s'|format(a, a) %}"),
        double("{% set a = '\"' %}", "{% set a = a|tojson %}"),
        "{{ big|replace('', big) }}".to_owned(),
        "{{ big|join(big) }}".to_owned(),
        "{{ list|join(big) }}".to_owned(),
        "{{ big|list|map('replace', 'x', big)|join }}".to_owned(),
        "{{ list|map('default', big)|list|string }}".to_owned(),
        "{{ list|map(attribute='q', default=big)|join }}".to_owned(),
        "{{ list|batch(100000000, 'x') }}".to_owned(),
        "{{ list|slice(100000000) }}".to_owned(),
        "{{ big|indent(1000000) }}".to_owned(),
        "{{ range(100000000)|list }}".to_owned(),
        "{{ range(100000)|list|join(big) }}".to_owned(),
        "{{ list|sum(start=big) }}".to_owned(),
        "{{ 9 ** 9 ** 9 ** 9 }}{{ nothing }}".to_owned(),
        "{{ namespace(a=big) }}".to_owned(),
        "{% for i in range(100000) %}{{ big }}{% endfor %}".to_owned(),
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
            .to_owned(),
        "{% for i in range(100000) %}{% set a = big ~ big %}{% endfor %}".to_owned(),
        "{% for i in range(100000) %}{% set a = big|list|sort|unique|list %}{% endfor %}"
            .to_owned(),
        "{% for i in range(100000) %}{% if list in [list, list] %}{% endif %}{% endfor %}"
            .to_owned(),
        "{% for i in range(100000) %}{% if list in big %}{% endif %}{% endfor %}".to_owned(),
        "{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}".to_owned(),
        "{% for i in [[[]]] recursive %}{{ loop(i) }}{% endfor %}".to_owned(),
        "{% set a %}{% for i in range(100000) %}{{ big }}{% endfor %}{% endset %}".to_owned(),
        "{{ list is startingwith(list) }}".to_owned(),
        "{{ list }}".to_owned(),
        "{{ self }}{{ loop }}".to_owned(),
        many_sets,
        nested_loops,
        quadratic.to_owned(),
        literal,
        deep_list,
        deep_map,
        json_bomb,
        chains,
        slices + "{{ nothing }}",
    ];
    let vars = serde_json::json!({"big": "x".repeat(60_000), "list": vec!["y"; 500]});
    // Warm up: what every compile needs is not the template's cost.
    try_out("{{ big|upper }}", &vars).expect("harmless");
    let before = peak_memory();
    let mut slowest = (Duration::ZERO, String::new());
    for template in &templates {
        let shown: String = template.chars().take(100).collect();
        let started = Instant::now();
        let result = try_out(template, &vars);
        slowest = slowest.max((started.elapsed(), shown.clone()));
        let error = result.expect_err(&shown);
        assert!(error.starts_with("text"), "{shown}: {error}");
        let grown = peak_memory().saturating_sub(before);
        assert!(grown < 64 << 20, "{shown} took {grown} bytes");
    }
    // An unoptimised build on a busy machine; the point is seconds, not hours.
    assert!(slowest.0 < Duration::from_secs(20), "{slowest:?}");
}
