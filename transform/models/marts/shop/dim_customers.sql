{#- A version holds from its change on. One that a run saw after that of a newer change was committed late, and holds from
    that run on. -#}
with

    versions as (select * from {{ ref("snp_shop__customers") }}),

    dated as (

        select
            *,
            case
                when updated_at <= lag(dbt_valid_from) over by_customer
                then dbt_valid_from
                else updated_at
            end as valid_from
        from versions
        window by_customer as (partition by customer_id order by dbt_valid_from)

    ),

    ended as (

        select
            *,
            least(
                dbt_valid_to,
                lead(valid_from) over (partition by customer_id order by valid_from)
            ) as valid_to
        from dated

    ),

    final as (

        select
            -- ids
            cast(
                md5(concat_ws(' ', customer_id, valid_from)) as varchar
            ) as customer_version_id,
            cast(customer_id as bigint) as customer_id,

            -- strings
            cast(email as varchar) as email,
            cast(age as varchar) as age,
            cast(income as varchar) as income,
            cast(street as varchar) as street,
            cast(postcode as varchar) as postcode,
            cast(city as varchar) as city,

            -- booleans
            cast(dbt_valid_to is null as boolean) as is_current,

            -- timestamps
            cast(created_at as timestamp) as created_at,
            cast(valid_from as timestamp) as valid_from,
            cast(valid_to as timestamp) as valid_to

        from ended

    )

select *
from final
