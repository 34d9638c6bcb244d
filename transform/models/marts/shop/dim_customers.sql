with

    versions as (select * from {{ ref("snp_shop__customers") }}),

    final as (

        select
            -- ids
            cast(dbt_scd_id as varchar) as customer_version_id,
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
            cast(dbt_valid_from as timestamp) as valid_from,
            cast(dbt_valid_to as timestamp) as valid_to

        from versions

    )

select *
from final
